/*
 * What does one HTTP exchange cost the thread that has it? One thread plays both ends of a loopback connection: write, recv, writev, read.
 * Processor time of the thread per round trip (two exchanges: one seen as client, one as server), for each block of round trips.
 *
 * Usage: pingpong BLOCKS [ROUND_TRIPS [PAUSE_MS]]. Between blocks it pauses, so that whoever reads along can empty its buffers.
 * Output: one line per block: nanoseconds per round trip, nanoseconds per getppid(), nanoseconds per read or write of a file.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP 50
#define BODY_BYTES 600

static const char REQUEST[] =
	"GET /api/users/123/orders?page=4 HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: pingpong\r\nAccept: */*\r\n"
	"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
static char header[] = "HTTP/1.1 200 OK\r\nServer: pingpong\r\nContent-Type: application/json\r\nContent-Length: 600\r\n\r\n";
static char body[BODY_BYTES];

static void check(long result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(1);
	}
}

static double thread_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static void round_trips(int client, int server, int count)
{
	struct iovec parts[2] = {{header, sizeof(header) - 1}, {body, sizeof(body)}};
	char buffer[4096];

	for (int i = 0; i < count; i++) {
		check(write(client, REQUEST, sizeof(REQUEST) - 1), "write");
		check(recv(server, buffer, sizeof(buffer), 0), "recv");
		check(writev(server, parts, 2), "writev");
		check(read(client, buffer, sizeof(buffer)), "read");
	}
}

static void connected(int *client, int *server)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	check(bind(listener, (struct sockaddr *)&address, size), "bind");
	check(listen(listener, 1), "listen");
	getsockname(listener, (struct sockaddr *)&address, &size);
	*client = socket(AF_INET, SOCK_STREAM, 0);
	check(connect(*client, (struct sockaddr *)&address, size), "connect");
	*server = accept(listener, NULL, NULL);
	check(*server, "accept");
	setsockopt(*client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(*server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	close(listener);
}

int main(int argc, char **argv)
{
	int blocks = argc > 1 ? atoi(argv[1]) : 20, count = argc > 2 ? atoi(argv[2]) : 1000,
	    pause_ms = argc > 3 ? atoi(argv[3]) : 0;
	int client, server, zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
	char buffer[64];

	memset(body, 'x', sizeof(body));
	connected(&client, &server);
	for (int block = 0; block < blocks; block++) {
		double trip, call, file, start;

		round_trips(client, server, WARM_UP);
		start = thread_ns();
		round_trips(client, server, count);
		trip = (thread_ns() - start) / count;
		start = thread_ns();
		for (int i = 0; i < count; i++)
			syscall(SYS_getppid);
		call = (thread_ns() - start) / count;
		start = thread_ns();
		for (int i = 0; i < count; i++) {
			check(read(zero, buffer, sizeof(buffer)), "read");
			check(write(null, buffer, sizeof(buffer)), "write");
		}
		file = (thread_ns() - start) / count / 2;
		printf("%.1f %.1f %.1f\n", trip, call, file);
		usleep(pause_ms * 1000);
	}
	return 0;
}
