"""What every test shares."""

import os

from examples import profile
from hypothesis import settings

# Before anything imports onnxruntime: its Linux wheels send telemetry otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
settings.load_profile(profile())
