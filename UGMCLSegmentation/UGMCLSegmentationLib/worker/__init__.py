"""The child process, its protocol, and the engine that runs tasks with it."""
