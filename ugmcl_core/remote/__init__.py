"""Another computer behind ssh: its sessions, its trainings, and how ugmcl gets there.

Imports neither torch nor NumPy: Slicer and the command line need neither here for work there.
"""
