"""What programs still ask `keras.backend` for."""

from .config import epsilon, floatx, image_data_format, set_floatx
from .utils import clear_session

__all__ = ["clear_session", "epsilon", "floatx", "image_data_format", "set_floatx"]
