"""Plans of trainings: the fingerprint of cases, what follows from it, how long it takes."""
