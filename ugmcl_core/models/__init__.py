"""Model folders: the card and the weights, where models are found, and exports."""
