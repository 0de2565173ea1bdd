"""The network, the mean teacher, and the equations: losses, level sets, uncertainty."""
