"""otel-ebpf: watches a Linux node's kernel and tells in OpenTelemetry why a call was slow, and whose fault it was."""
