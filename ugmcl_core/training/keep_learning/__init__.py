"""Keep learning: a training that stays alive while cases are being corrected."""
