"""Exchanges and flows become OpenTelemetry metrics, logs and spans; the only package that knows OpenTelemetry."""
