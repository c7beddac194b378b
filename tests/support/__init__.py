"""Real parts for tests, bench and demo: servers, clients, namespaces, a Collector, the agent, and readers of OTLP."""
