"""Fine-tuning by a case list: its plan, length, trainings, verdict and estimate."""
