"""The process behind the Slicer panel: protocol, server, request handlers."""
