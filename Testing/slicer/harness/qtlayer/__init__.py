"""The `qt` module as PythonQt shows it, made of PySide6."""
