"""What every test shares."""

import os

# Before anything imports onnxruntime: its Linux wheels send telemetry otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
