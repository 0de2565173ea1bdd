"""Trainings: profiles, the trainer and its checkpoints, fine-tuning and its report."""
