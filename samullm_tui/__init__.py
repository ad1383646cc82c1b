"""The control console for offline multi-LLM applications on a multi-GPU node."""

__version__ = "0.1.0"
