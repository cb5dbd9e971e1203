"""What every test shares."""

import os

from hypothesis import HealthCheck, settings

# Before anything imports onnxruntime: its Linux wheels send telemetry otherwise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# No test judges seconds: these machines are shared.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")
