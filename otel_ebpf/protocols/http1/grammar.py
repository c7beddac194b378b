"""The grammar of HTTP/1 messages as patterns, in the order of RFC 9110 and RFC 9112.

In: nothing. Out: compiled patterns over bytes. The text of the RFC stands above each pattern; where we read more than
the RFC allows, the reason is written beside it: who overhears must understand whatever the two ends understood.
Patterns match in linear time: their repetitions are possessive or exclude each other, because the bytes come from
strangers.
"""
# ruff: noqa: ERA001  # the grammar that the RFCs give looks like code

from __future__ import annotations

import re
from typing import Final

# RFC 9110, 5.6.2:
#     token  = 1*tchar
#     tchar  = "!" / "#" / "$" / "%" / "&" / "'" / "*" / "+" / "-" / "." / "^" / "_" / "`" / "|" / "~" / DIGIT / ALPHA
# RFC 9112, 3.1:
#     method = token
# Bounded: the longest registered method (UPDATEREDIRECTREF) has 17 letters; 64 leaves room for extensions and keeps
# noise out.
METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}+")

# RFC 9112, 2.3:
#     HTTP-version = HTTP-name "/" DIGIT "." DIGIT
#     HTTP-name    = %s"HTTP"
# RFC 9112, 2.2 lets a lone LF end a line; the version is the last word of the request line and the first of the status
# line.
VERSION: Final = re.compile(rb"HTTP/(1\.[0-9])")

# RFC 9112, 3:
#     request-line = method SP request-target SP HTTP-version
# Targets with raw spaces are answered by common servers; therefore the version is looked for from the end of the line.
# RFC 9112, 3: "recipients MAY instead parse on whitespace-delimited word boundaries": blanks around the parts are
# dropped.
VERSION_MARK: Final = b" HTTP/1."

# A request line behind bytes that were not understood must be recognised with more certainty: a method as people write
# them, a target without blanks, and, as far as it was captured, the version.
REQUEST_RESUMED: Final = re.compile(rb"[A-Z][A-Z_-]{0,63}+ [!-~]++(?: HTTP/1\.[0-9]\r?\n|(?: [HTP/.0-9]{0,8}+\r?)?\Z)")

# RFC 9112, 4:
#     status-line = HTTP-version SP status-code SP [ reason-phrase ]
#     status-code = 3DIGIT
# RFC 9110, 15: the first digit is 1 to 5; other classes are kept out, they are no valid status codes.
# The second SP is left out by servers that have no reason phrase.
STATUS_LINE: Final = re.compile(rb"HTTP/(1\.[0-9]) {1,8}+([1-5][0-9]{2})(?=[ \t\r\n]|\Z)")

# The same with its end still missing: what may yet become a status line.
STATUS_LINE_START: Final = b"HTTP/1."

# RFC 9112, 5:
#     field-line = field-name ":" OWS field-value OWS
# RFC 9112, 5.1: no whitespace stands between name and colon; some send it nevertheless, and proxies drop it.
# Only two fields decide the framing (RFC 9112, 6.3); they are picked from the whole section at once.
LENGTH_FIELD: Final = re.compile(rb"\n(content-length|transfer-encoding)[ \t]*+:[ \t]*+([^\r\n]*+)", re.IGNORECASE)

# RFC 9112, 5.2:
#     obs-fold = OWS CRLF RWS
# "replace each received obs-fold with one or more SP octets prior to interpreting the field value".
OBS_FOLD: Final = re.compile(rb"\r?\n[ \t]++")

# RFC 9112, 6.1: Transfer-Encoding = #transfer-coding, of which only the last says how the message ends.
# RFC 9110, 8.6:
#     Content-Length = 1*DIGIT
DIGITS: Final = re.compile(rb"[0-9]{1,64}+")

# RFC 9112, 7.1:
#     chunk      = chunk-size [ chunk-ext ] CRLF chunk-data CRLF
#     chunk-size = 1*HEXDIG
#     last-chunk = 1*("0") [ chunk-ext ] CRLF
# Blanks after the size are read past: some servers pad the size (https://bugzilla.mozilla.org/show_bug.cgi?id=51158).
CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,16}+)[ \t]*+(?:;[^\r\n]*+)?\Z")

# What ends a chunked body without trailers, with the CRLF of the chunk before it.
LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
