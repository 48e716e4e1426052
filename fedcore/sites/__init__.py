"""Sites: hospitals that train behind their own worker; nothing they send or get is trusted."""
