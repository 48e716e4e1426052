"""The site's side: its worker and its supervisor."""
