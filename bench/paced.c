/*
 * Load at a fixed rate: N keep-alive connections, R requests a second, spread evenly, for a bounded number of requests.
 *
 * Usage: paced ADDRESS PORT PATH CONNECTIONS RATE REQUESTS [TIMEOUT_S]. A request goes out when it is due, on a connection that waits for
 * nothing; when none is free it goes out late, and is counted as such. Responses need a Content-Length.
 * Output: one JSON object. Exit code 1 when an answer is wrong, a connection breaks, or the time is over.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ULL
#define LATE 1000000ULL /* a request that goes out 1 ms after it was due is late */
#define BUFFER_BYTES 65536
#define SLOTS 65536 /* of the histogram: microseconds */

struct connection {
	int socket;
	bool busy;
	uint64_t sent_ns;
	size_t kept;      /* bytes of the head read so far */
	size_t body_left; /* bytes of the body still to come */
	bool in_body;
	char head[4096];
};

struct load {
	struct connection *connections, **idle;
	int count, idle_count, epoll;
	uint64_t sent, answered, late, body_bytes;
	char request[2048];
	size_t request_bytes;
};

static uint32_t histogram[SLOTS];

static void fail(const char *what)
{
	fprintf(stderr, "paced: %s: %s\n", what, errno ? strerror(errno) : "wrong answer");
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * SECOND + time.tv_nsec;
}

static void open_connection(struct load *load, struct connection *connection, struct sockaddr_in *address)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
	int on = 1;

	connection->socket = socket(AF_INET, SOCK_STREAM, 0);
	if (connection->socket < 0 || connect(connection->socket, (struct sockaddr *)address, sizeof(*address)))
		fail("connect");
	setsockopt(connection->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (fcntl(connection->socket, F_SETFL, O_NONBLOCK) || epoll_ctl(load->epoll, EPOLL_CTL_ADD, connection->socket, &event))
		fail("epoll");
	load->idle[load->idle_count++] = connection;
}

static void send_request(struct load *load, uint64_t due)
{
	struct connection *connection = load->idle[--load->idle_count];

	connection->sent_ns = now_ns();
	load->late += connection->sent_ns > due + LATE;
	connection->busy = true;
	if (write(connection->socket, load->request, load->request_bytes) != (ssize_t)load->request_bytes)
		fail("write");
	load->sent++;
}

static void finish(struct load *load, struct connection *connection)
{
	uint64_t microseconds = (now_ns() - connection->sent_ns) / 1000;

	histogram[microseconds < SLOTS ? microseconds : SLOTS - 1]++;
	connection->busy = connection->in_body = false;
	connection->kept = 0;
	load->answered++;
	load->idle[load->idle_count++] = connection;
}

/* One piece of an answer: the head is collected until its empty line, the body is only counted. */
static void take(struct load *load, struct connection *connection, const char *piece, size_t size)
{
	char *end, *length;
	size_t room = sizeof(connection->head) - 1 - connection->kept, head_bytes;

	if (!connection->in_body) {
		size_t before = connection->kept, copied = size < room ? size : room;

		memcpy(connection->head + before, piece, copied);
		connection->kept += copied;
		connection->head[connection->kept] = 0;
		end = strstr(connection->head, "\r\n\r\n");
		length = strcasestr(connection->head, "\r\nContent-Length:");
		if (!end) {
			if (copied < size)
				fail("head too long");
			return;
		}
		if (!length || length > end || strncmp(connection->head, "HTTP/1.1 2", 10))
			fail("head");
		head_bytes = end + 4 - connection->head - before;
		connection->body_left = strtoul(length + 17, NULL, 10);
		connection->in_body = true;
		size -= head_bytes;
	}
	if (size > connection->body_left)
		fail("longer than its length");
	connection->body_left -= size;
	load->body_bytes += size;
	if (!connection->body_left)
		finish(load, connection);
}

static void read_answer(struct load *load, struct connection *connection)
{
	static char buffer[BUFFER_BYTES];
	ssize_t size = read(connection->socket, buffer, sizeof(buffer));

	if (size < 0 && errno == EAGAIN)
		return;
	if (size <= 0 || !connection->busy)
		fail("connection ended");
	errno = 0;
	take(load, connection, buffer, size);
}

static void wait_for_answers(struct load *load, uint64_t until)
{
	struct epoll_event events[256];
	uint64_t now = now_ns(), left = until > now ? until - now : 0;
	struct timespec timeout = {.tv_sec = left / SECOND, .tv_nsec = left % SECOND};
	int count = epoll_pwait2(load->epoll, events, 256, &timeout, NULL);

	for (int i = 0; i < count; i++)
		read_answer(load, events[i].data.ptr);
}

static uint64_t percentile(uint64_t total, double part)
{
	uint64_t seen = 0, microseconds = 0;

	while (microseconds < SLOTS - 1 && (seen += histogram[microseconds]) < total * part)
		microseconds++;
	return microseconds;
}

int main(int argc, char **argv)
{
	struct load load = {.epoll = epoll_create1(0)};
	struct sockaddr_in address = {.sin_family = AF_INET};
	uint64_t rate, requests, start, deadline;
	double elapsed;

	if (argc < 7) {
		fprintf(stderr, "usage: paced ADDRESS PORT PATH CONNECTIONS RATE REQUESTS [TIMEOUT_S]\n");
		return 2;
	}
	inet_pton(AF_INET, argv[1], &address.sin_addr);
	address.sin_port = htons(atoi(argv[2]));
	load.count = atoi(argv[4]);
	rate = strtoull(argv[5], NULL, 10);
	requests = strtoull(argv[6], NULL, 10);
	load.request_bytes = snprintf(load.request, sizeof(load.request),
				      "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: paced\r\nAccept: */*\r\n\r\n", argv[3], argv[1]);
	load.connections = calloc(load.count, sizeof(*load.connections));
	load.idle = calloc(load.count, sizeof(*load.idle));
	for (int i = 0; i < load.count; i++)
		open_connection(&load, &load.connections[i], &address);

	start = now_ns();
	deadline = start + (argc > 7 ? strtoull(argv[7], NULL, 10) : requests / rate + 30) * SECOND;
	while (load.answered < requests) {
		uint64_t due = start + load.sent * SECOND / rate, now = now_ns();

		if (now > deadline) {
			errno = ETIMEDOUT;
			fail("load");
		}
		if (load.sent < requests && due <= now && load.idle_count)
			send_request(&load, due);
		else
			wait_for_answers(&load, load.sent < requests && load.idle_count ? due : deadline);
	}
	elapsed = (now_ns() - start) / 1e9;
	printf("{\"requests\": %lu, \"seconds\": %.6f, \"per_second\": %.1f, \"late\": %lu, \"body_bytes\": %lu, \"p50_us\": %lu, "
	       "\"p99_us\": %lu}\n",
	       load.answered, elapsed, load.answered / elapsed, load.late, load.body_bytes, percentile(load.answered, 0.5),
	       percentile(load.answered, 0.99));
	return 0;
}
