"""Plans of trainings: the fingerprint of the cases, and what follows from it."""
