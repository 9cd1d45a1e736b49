/* A cheap NATS load generator, so that what is measured is the agent and not its client.
 *
 *   load commands HOST PORT SUBJECT PAYLOAD COUNT WINDOW    requests, WINDOW of them in flight
 *   load events   HOST PORT SUBJECT COUNT SECONDS           counts events until COUNT came or SECONDS passed
 *   load esl      HOST PORT PASSWORD COMMAND COUNT WINDOW   the same commands on a raw event socket: the ceiling
 *   load fire     HOST PORT PASSWORD COUNT RATE             has FreeSWITCH fire CUSTOM bench::event, RATE a second (0: flat out)
 *
 * Prints one JSON object: how many, in how many seconds, and percentiles in microseconds. Each request has a reply
 * subject of its own slot, so replies may come in any order. An event's latency is taken from a header X-Sent-Us,
 * microseconds since the epoch, where it has one. Exits 1 when something is missing at the end.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buffer[1 << 21];
static size_t held;
static int fd;

static void die(const char *what) { perror(what); exit(2); }

static double now(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void send_all(const char *data, size_t size)
{
	while (size) {
		ssize_t sent = send(fd, data, size, 0);
		if (sent <= 0) die("send");
		data += sent;
		size -= sent;
	}
}

static void dial(const char *host, int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	int one = 1;
	inet_pton(AF_INET, host, &to.sin_addr);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	const char *hello = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"protocol\":1}\r\n";
	send_all(hello, strlen(hello));
}

/* Reads on; 0 after `ms` without a byte. */
static int more(int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	if (poll(&p, 1, ms) <= 0) return 0;
	ssize_t got = recv(fd, buffer + held, sizeof buffer - held - 1, 0);
	if (got <= 0) die("recv");
	held += got;
	buffer[held] = 0;
	return 1;
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return x < y ? -1 : x > y;
}

static void report(long done, double seconds, float *times, long timed, long bad)
{
	qsort(times, timed, sizeof *times, compare);
#define P(share) (timed ? times[(long)((timed - 1) * (share))] : 0.0)
	printf("{\"count\":%ld,\"bad\":%ld,\"seconds\":%.6f,\"per_second\":%.1f,\"p50_us\":%.1f,\"p90_us\":%.1f,"
		   "\"p99_us\":%.1f,\"max_us\":%.1f}\n",
		   done, bad, seconds, done / seconds, P(.5), P(.9), P(.99), P(1));
}

/* Calls `each` for every whole message in the buffer and keeps the rest. Messages without headers only. */
static void messages(void (*each)(char *subject, char *body, long size))
{
	size_t at = 0;
	for (;;) {
		char *line = buffer + at, *end = memchr(line, '\n', held - at);
		if (!end) break;
		if (!strncmp(line, "MSG ", 4)) {
			char *size_at = end - 1;
			while (size_at[-1] != ' ') size_at--;
			long size = atol(size_at);
			if (end + 1 + size + 2 > buffer + held) break;
			each(line + 4, end + 1, size);
			at = end + 1 + size + 2 - buffer;
			continue;
		}
		if (!strncmp(line, "PING", 4)) send_all("PONG\r\n", 6);
		if (!strncmp(line, "-ERR", 4)) { fwrite(line, 1, end - line, stderr); exit(2); }
		at = end + 1 - buffer;
	}
	memmove(buffer, buffer + at, held - at);
	held -= at;
}

static const char *subject, *payload;
static long total, sent, done, bad, timed;
static double *since;
static float *times;
static char out[1 << 21];
static size_t out_size;

static void request(long slot)
{
	since[slot] = now(CLOCK_MONOTONIC);
	out_size += sprintf(out + out_size, "PUB %s L.%d.%ld %zu\r\n%s\r\n", subject, getpid(), slot, strlen(payload), payload);
	sent++;
}

static void answered(char *to, char *body, long size)
{
	long slot = atol(strrchr((*strchr(to, ' ') = 0, to), '.') + 1);
	times[timed++] = now(CLOCK_MONOTONIC) - since[slot];
	if (size < 16 || memcmp(body, "{\"success\":true,", 16)) bad++;
	done++;
	if (sent < total) request(slot);
}

static void happened(char *to, char *body, long size)
{
	(void)to;
	body[size] = 0;
	char *stamp = strstr(body, "\"X-Sent-Us\":\"");
	if (stamp && timed < total) times[timed++] = now(CLOCK_REALTIME) - atof(stamp + 13);
	done++;
}

/* One reply of the event socket ends where its Content-Length, if any, says. Returns how many are whole. */
static long replies(void)
{
	size_t at = 0;
	long found = 0;
	for (;;) {
		char *head = buffer + at, *end = strstr(head, "\n\n");
		if (!end) break;
		*end = 0;
		char *length = strstr(head, "Content-Length: ");
		*end = '\n';
		size_t next = end + 2 - buffer + (length && length < end ? atol(length + 16) : 0);
		if (next > held) break;
		at = next;
		found++;
	}
	memmove(buffer, buffer + at, held - at);
	held -= at;
	buffer[held] = 0;
	return found;
}

static void esl_login(const char *host, int port, const char *password)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	int one = 1;
	inet_pton(AF_INET, host, &to.sin_addr);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	char line[256];
	snprintf(line, sizeof line, "auth %s\n\n", password);
	send_all(line, strlen(line));
	for (long got = 0; got < 2; got += replies()) if (!more(5000)) die("no reply to auth");
}

static int esl(const char *command, long window)
{
	double start = now(CLOCK_MONOTONIC);
	char line[1024];
	int size = snprintf(line, sizeof line, "api %s\n\n", command);
	long head = 0;
	while (done < total) {
		while (sent < total && sent - done < window) {
			since[sent++ % window] = now(CLOCK_MONOTONIC);
			memcpy(out + out_size, line, size);
			out_size += size;
		}
		send_all(out, out_size);
		out_size = 0;
		if (!more(30000)) break;
		for (long got = replies(); got; got--, done++) times[timed++] = now(CLOCK_MONOTONIC) - since[head++ % window];
	}
	report(done, (now(CLOCK_MONOTONIC) - start) / 1e6, times, timed, 0);
	return done < total;
}

/* Small ones: FreeSWITCH reads the headers of a sendevent one byte a system call. */
static int fire(double rate)
{
	char line[256];
	double start = now(CLOCK_MONOTONIC);
	while (sent < total) {
		double due = start + (rate ? sent / rate * 1e6 : 0), wait = due - now(CLOCK_MONOTONIC);
		if (wait > 0) { struct timespec t = {0, (long)(wait * 1e3) % 1000000000}; nanosleep(&t, 0); continue; }
		int size = sprintf(line, "sendevent CUSTOM\nEvent-Subclass: bench::event\nX-Sent-Us: %.0f\n\n",
						   now(CLOCK_REALTIME));
		send_all(line, size);
		sent++;
		while (sent - done > (rate ? 1000 : 100)) { if (!more(30000)) return 1; done += replies(); }
		if (more(0)) done += replies();
	}
	while (done < total) { if (!more(30000)) return 1; done += replies(); }
	report(done, (now(CLOCK_MONOTONIC) - start) / 1e6, times, 0, 0);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 7) { fputs("see the top of load.c\n", stderr); return 2; }
	int commands = !strcmp(argv[1], "commands");
	if (!strcmp(argv[1], "esl") || !strcmp(argv[1], "fire")) {
		int raw = argv[1][0] == 'e';
		total = atol(argv[raw ? 6 : 5]);
		long wide = raw && argc > 7 ? atol(argv[7]) : 1;
		times = calloc(total + 1, sizeof *times);
		since = calloc(wide, sizeof *since);
		esl_login(argv[2], atoi(argv[3]), argv[4]);
		return raw ? esl(argv[5], wide) : fire(atof(argv[6]));
	}
	dial(argv[2], atoi(argv[3]));
	subject = argv[4];
	payload = argv[5];
	total = atol(argv[commands ? 6 : 5]);
	long window = commands && argc > 7 ? atol(argv[7]) : 1;
	times = calloc(total + 1, sizeof *times);
	since = calloc(window, sizeof *since);
	char line[512];
	if (commands) sprintf(line, "SUB L.%d.* 1\r\nPING\r\n", getpid());
	else sprintf(line, "SUB %s 1\r\nPING\r\n", subject);
	send_all(line, strlen(line));
	while (!strstr(buffer, "PONG")) if (!more(5000)) die("no PONG");
	held = 0;
	double start = now(CLOCK_MONOTONIC), last = start;
	if (!commands) { puts("ready"); fflush(stdout); }
	for (long slot = 0; commands && slot < window && sent < total; slot++) request(slot);
	double limit = commands ? 30e6 : atof(argv[6]) * 1e6;
	while (done < total) {
		if (out_size) { send_all(out, out_size); out_size = 0; }
		double left = (commands ? last : start) + limit - now(CLOCK_MONOTONIC);
		if (left <= 0 || !more(left / 1000 + 1)) break;
		long before = done;
		messages(commands ? answered : happened);
		if (done > before) {
			if (!commands && !before) start = now(CLOCK_MONOTONIC) - 1;
			last = now(CLOCK_MONOTONIC);
		}
	}
	report(done, (last - start) / 1e6, times, timed, bad);
	return done < total || bad;
}
