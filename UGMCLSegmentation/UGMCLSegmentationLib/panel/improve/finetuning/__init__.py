"""Fine-tuning: the run, its settings, curves and report."""
