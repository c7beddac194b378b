"""otel-ebpf: watches the kernel of a Linux node and tells in OpenTelemetry why a call was slow, and whose fault it was."""
