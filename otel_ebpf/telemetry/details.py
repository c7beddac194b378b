"""Details: exchanges that become a log record, a span, or both.

In: the exchanges that the counter picked out. Out: export requests of logs and spans, and their part of the ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic

from otel_ebpf.protocols.exchange import Exchange
from otel_ebpf.telemetry import ledger as fate
from otel_ebpf.telemetry.batch import LOGS, SPANS, STAGES, Batch, Request
from otel_ebpf.telemetry.edges import W
from otel_ebpf.telemetry.encode import Encoder, span_ns
from otel_ebpf.telemetry.exchanges import duration_ns
from otel_ebpf.telemetry.ledger import Ledger
from otel_ebpf.telemetry.policy import Policy
from otel_ebpf.telemetry.shape import INFO, WARN, Shape, Shapes
from otel_ebpf.telemetry.trace import SpanContext, Tracer


class Details(Generic[W]):
    """Makes log records and spans, and hands them on in batches.

    Attributes:
        now_ns: Time of the present turn of the loop, ns since boot.
        offset_ns: What turns ns since boot into Unix time.
    """

    def __init__(  # noqa: PLR0913 - parts, each of them given by the composition
        self, *, policy: Policy, shapes: Shapes[W], tracer: Tracer, ledger: Ledger, version: str,
        slow_ns: int, send: Callable[[Request], None],
    ) -> None:  # fmt: skip
        self.now_ns = self.offset_ns = 0
        self._policy = policy
        self._constant = policy.constant
        self._ledger = ledger
        self._slow_ns = slow_ns
        self._send = send
        self._logs = Batch(LOGS, version)
        self._spans = Batch(SPANS, version)
        encoder = Encoder()
        # Every record takes these steps; finding them each time would take a tenth of it.
        self._shape, self._choose, self._context = shapes.get, policy.choose, tracer.context
        self._encode_log, self._encode_span, self._encode_both = encoder.log, encoder.span, encoder.both
        self._add_log, self._add_span = self._logs.add, self._spans.add
        self._logged = self._spanned = self._unsampled = self._instrumented = 0
        self._settled = 0

    def add(self, exchange: Exchange) -> None:
        """Tell an exchange as far as the policy wants it; flat, because it runs for every one.

        The ordinary case is both a log record and a span, all times known.
        """
        shape = self._shape(exchange)
        if not shape.watched:
            return
        begin, end = exchange.request_first_ns, exchange.response_last_ns
        took_ns = end - begin if begin and end > begin else duration_ns(exchange)
        log, span = self._constant or self._choose(shape.error, took_ns)
        if not (log or span):
            return
        context = self._context(exchange)
        if not (
            log and span and context[4] and shape.spans and begin and end and exchange.request_last_ns
            and exchange.response_first_ns and not exchange.handshake_ns
        ):  # fmt: skip
            self._add_either(exchange, shape, context, took_ns, log=log, span=span)
            return
        self._logged += 1
        self._spanned += 1
        offset_ns, now_ns, resource = self.offset_ns, self.now_ns, shape.resource
        severity = WARN if took_ns >= self._slow_ns and shape.severity == INFO else shape.severity
        record, told = self._encode_both(exchange, shape, context, severity, took_ns, offset_ns, now_ns + offset_ns)
        if self._add_span(resource, shape.span, told, now_ns):
            self._flush(self._spans)
        if self._add_log(resource, shape.log, record, now_ns):
            self._flush(self._logs)

    def _add_either(  # noqa: PLR0913 - what was found out about it
        self, exchange: Exchange, shape: Shape, context: SpanContext, took_ns: int, *, log: bool, span: bool
    ) -> None:
        """Tell an exchange as a log record, as a span, or as either without what is not known of it."""
        trace_id, _, parent_id, _, sampled = context
        offset_ns, now_ns = self.offset_ns, self.now_ns
        if span:
            span = sampled and shape.spans
            if span:
                self._spanned += 1
                if self._add_span(shape.resource, shape.span, self._encode_span(exchange, context, offset_ns), now_ns):
                    self._flush(self._spans)
            elif sampled:
                self._instrumented += 1
            else:
                self._unsampled += 1
        if log:
            self._logged += 1
            # A span that is not sent leads nowhere: then the record is joined to the caller's, if there is one.
            trace = context if span else (trace_id, parent_id, b"", b"", sampled) if parent_id else None
            severity = WARN if took_ns >= self._slow_ns and shape.severity == INFO else shape.severity
            seen_ns = took_ns if took_ns >= 0 else span_ns(exchange)
            record = self._encode_log(exchange, shape, trace, severity, seen_ns, offset_ns, now_ns + offset_ns)
            if self._add_log(shape.resource, shape.log, record, now_ns):
                self._flush(self._logs)

    def flush_due(self) -> None:
        """Send the batches that have waited long enough."""
        for batch in (self._logs, self._spans):
            if batch.due(self.now_ns):
                self._flush(batch)

    def flush(self) -> None:
        """Send what there is."""
        self._flush(self._logs)
        self._flush(self._spans)

    def _flush(self, batch: Batch) -> None:
        request = batch.take()
        if request is not None:
            self._send(request)

    def settle(self, seen: int) -> None:
        """Write down what became of the exchanges: *seen* is how many there were since the start."""
        new = seen - self._settled
        self._settled = seen
        for signal, mode, chosen in (
            (LOGS, self._policy.logs, self._logged),
            (SPANS, self._policy.spans, self._spanned + self._unsampled + self._instrumented),
        ):
            self._ledger.add(STAGES[signal], fate.SEEN, n=new)
            self._ledger.add(STAGES[signal], fate.SAMPLED_OUT, "off" if mode == "off" else "policy", new - chosen)
        self._ledger.add(STAGES[SPANS], fate.SAMPLED_OUT, "sampler", self._unsampled)
        self._ledger.add(STAGES[SPANS], fate.SAMPLED_OUT, "instrumented", self._instrumented)
        self._logged = self._spanned = self._unsampled = self._instrumented = 0
