"""Federated algorithms: values made of pure functions; variants are arguments.

| symbol | name here | meaning |
|---|---|---|
| x_t | ``params`` | global model of round t |
| Delta_t | ``mean_delta`` | weighted mean of the clients' deltas |
| eta | ``server_learning_rate`` | step of the server optimizer |
| m_t, v_t | ``momentum``, ``second`` in the state | first and second moment |
| beta_1, beta_2, tau | same | decays, degree of adaptivity |
| mu | ``mu`` | weight of the proximal term |
"""
