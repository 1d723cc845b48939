"""rnnlab: train recurrent networks and watch which dynamical system they become."""

__version__ = "0.1.0"
