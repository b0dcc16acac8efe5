"""How commands reach their verbs: single runs and jobs of sweeps, in whatever process Hydra runs them."""
