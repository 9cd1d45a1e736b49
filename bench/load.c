/* A cheap load generator, so that what is measured is the agent and not its client. One process, one thread, one
 * connection.
 *
 *   load commands HOST PORT SUBJECT PAYLOAD COUNT WINDOW      requests by NATS, WINDOW of them in flight
 *   load echo     HOST PORT SUBJECT BODY                      answers requests until its stdin ends: NATS alone
 *   load events   HOST PORT SUBJECT COUNT SECONDS             counts events until COUNT came or SECONDS passed
 *   load esl      HOST PORT PASSWORD COMMAND COUNT WINDOW     the same commands on a raw event socket
 *   load listen   HOST PORT PASSWORD SUBCLASS COUNT SECONDS NUDGE_MS    events of a raw event socket; 0: not nudged
 *   load fire     HOST PORT PASSWORD COUNT RATE [COMMAND]     has FreeSWITCH fire CUSTOM bench::event, or run COMMAND,
 *                                                             RATE a second (0: as fast as it takes them)
 *
 * Prints one JSON object: how many came, how many of them were no success, in how many seconds, percentiles in
 * microseconds, and the CPU this program itself used for each. `echo`, `events` and `listen` say "ready" first.
 *
 * A latency is that of one request: from the moment at which its slot became free (the read that brought the reply
 * before it, or the start) to the read that brought its reply. So the few microseconds in which this program makes
 * requests count against the agent, never for it. Each request has a reply subject of its own slot: replies may come
 * in any order. An event's latency is that of its header X-Sent-Us, microseconds since the epoch, set just before it
 * is sent to FreeSWITCH. Exits 1 when something is missing at the end.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { INPUT = 1 << 21 };
static char input[INPUT + 1]; /* what was read and not yet taken; always ends in a NUL */
static size_t held;
static char *output; /* what is still to be sent */
static size_t queued, room;
static int link_fd;
static double arrived; /* microseconds: when the last read returned */

static long total, sent, done, bad, timed;
static double *since; /* by slot */
static float *times;
static const char *subject, *payload;

static void die(const char *what) { perror(what); exit(2); }

static double now(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void *room_for(size_t count, size_t size)
{
	void *found = calloc(count + 1, size);
	if (!found) die("calloc");
	return found;
}

/* -- the connection */

static void dial(const char *host, const char *port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	int one = 1;
	if (inet_pton(AF_INET, host, &to.sin_addr) != 1) die("HOST is an address");
	link_fd = socket(AF_INET, SOCK_STREAM, 0);
	if (link_fd < 0 || connect(link_fd, (struct sockaddr *)&to, sizeof to)) die("connect");
	setsockopt(link_fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	struct timeval tick = {1, 0}; /* see turn() */
	setsockopt(link_fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof tick);
}

/* Room at the end of what is to be sent; the caller adds what it wrote to `queued`. */
static char *space(size_t size)
{
	if (queued + size > room && !(output = realloc(output, room = 2 * (queued + size)))) die("realloc");
	return output + queued;
}

static void say(const char *text, size_t size)
{
	memcpy(space(size), text, size);
	queued += size;
}

/* Sends what is queued as far as it is taken, and reads on; 0 when nothing came within so many microseconds. */
static int turn(double wait)
{
	double until = now(CLOCK_MONOTONIC) + wait;
	for (;;) {
		size_t gone = 0;
		while (gone < queued) {
			ssize_t took = send(link_fd, output + gone, queued - gone, MSG_DONTWAIT | MSG_NOSIGNAL);
			if (took < 0 && errno == EAGAIN) break;
			if (took < 0) die("send");
			gone += took;
		}
		memmove(output, output + gone, queued -= gone);
		double left = wait < 1e6 || queued ? until - now(CLOCK_MONOTONIC) : 2e6;
		if (left < 0) left = 0;
		if (left < 1e6 || queued) { /* otherwise recv itself waits a second: a system call less */
			struct timespec limit = {left / 1e6, (long)(left * 1e3) % 1000000000};
			struct pollfd poll_fd = {.fd = link_fd, .events = POLLIN | (queued ? POLLOUT : 0)};
			if (ppoll(&poll_fd, 1, &limit, NULL) <= 0) return 0;
			if (!(poll_fd.revents & ~POLLOUT)) continue;
		}
		ssize_t got = recv(link_fd, input + held, INPUT - held, 0);
		if (got < 0 && errno == EAGAIN && now(CLOCK_MONOTONIC) < until) continue;
		if (got < 0 && errno == EAGAIN) return 0;
		if (got <= 0) die("recv");
		arrived = now(CLOCK_MONOTONIC);
		input[held += got] = 0;
		return 1;
	}
}

static void taken(size_t size)
{
	memmove(input, input + size, held -= size);
	input[held] = 0;
}

/* -- what was seen */

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;
	return x < y ? -1 : x > y;
}

/* Between the two nearest ones, in proportion: of few values none is taken for the whole. */
static double percentile(double share)
{
	double at = (timed - 1) * share;
	long low = at;
	if (!timed) return 0;
	return low + 1 < timed ? times[low] + (at - low) * (times[low + 1] - times[low]) : times[low];
}

static int report(double start, double end)
{
	double seconds = (end - start) / 1e6, cpu = now(CLOCK_PROCESS_CPUTIME_ID);
	qsort(times, timed, sizeof *times, compare);
	printf("{\"count\":%ld,\"bad\":%ld,\"seconds\":%.6f,\"per_second\":%.1f,\"p50_us\":%.1f,\"p90_us\":%.1f,"
		   "\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,\"own_cpu_us\":%.3f}\n",
		   done, bad, seconds, seconds > 0 ? done / seconds : 0, percentile(.5), percentile(.9),
		   percentile(.99), percentile(.999), percentile(1), cpu / (done ? done : 1));
	return done < total;
}

static void ready(void)
{
	puts("ready");
	fflush(stdout);
}

/* -- NATS */

typedef void taker(char *head, char *body, long size);

/* Hands on every whole message read so far. They have no headers: none are asked for. */
static void messages(taker *take)
{
	size_t at = 0;
	for (;;) {
		char *line = input + at, *end = memchr(line, '\n', held - at);
		if (!end) break;
		if (!strncmp(line, "MSG ", 4)) {
			char *size_at = end - 1;
			while (size_at[-1] != ' ') size_at--;
			long size = atol(size_at);
			if (end + 1 + size + 2 > input + held) break;
			take(line + 4, end + 1, size);
			at = end + 1 + size + 2 - input;
			continue;
		}
		if (!strncmp(line, "PING", 4)) say("PONG\r\n", 6);
		if (!strncmp(line, "-ERR", 4)) { fwrite(line, 1, end - line, stderr); exit(2); }
		at = end + 1 - input;
	}
	taken(at);
}

/* Connected and subscribed when it returns. */
static void nats(const char *host, const char *port, const char *wanted)
{
	char hello[512];
	dial(host, port);
	say(hello, snprintf(hello, sizeof hello, "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"protocol\":1}"
		"\r\nSUB %s 1\r\nPING\r\n", wanted));
	while (!strstr(input, "PONG")) if (!turn(5e6)) die("no PONG");
	taken(held);
}

static void request(long slot)
{
	since[slot] = arrived;
	size_t size = strlen(payload);
	queued += sprintf(space(size + strlen(subject) + 100), "PUB %s L.%d.%ld %zu\r\n%s\r\n", subject, getpid(), slot, size,
					  payload);
	sent++;
}

static void answered(char *head, char *body, long size)
{
	long slot = atol(strrchr((*strchr(head, ' ') = 0, head), '.') + 1);
	times[timed++] = arrived - since[slot];
	if (size < 16 || memcmp(body, "{\"success\":true,", 16)) bad++;
	done++;
	if (sent < total) request(slot);
}

static int commands(char **argument)
{
	char inbox[64];
	subject = argument[2];
	payload = argument[3];
	total = atol(argument[4]);
	long window = atol(argument[5]);
	times = room_for(total, sizeof *times);
	since = room_for(window, sizeof *since);
	sprintf(inbox, "L.%d.*", getpid());
	nats(argument[0], argument[1], inbox);
	double start = arrived = now(CLOCK_MONOTONIC);
	for (long slot = 0; slot < window && sent < total; slot++) request(slot);
	while (done < total && turn(30e6)) messages(answered);
	return report(start, arrived);
}

static void echoed(char *head, char *body, long size)
{
	(void)body, (void)size;
	char *reply = strchr(strchr(head, ' ') + 1, ' ') + 1; /* subject sid reply size */
	int length = strchr(reply, ' ') - reply;
	size_t answer = strlen(payload);
	queued += sprintf(space(answer + length + 64), "PUB %.*s %zu\r\n%s\r\n", length, reply, answer, payload);
}

static int echo(char **argument)
{
	payload = argument[3];
	nats(argument[0], argument[1], argument[2]);
	ready();
	struct pollfd end = {.fd = 0, .events = POLLIN};
	while (poll(&end, 1, 0) == 0) {
		if (!turn(1e5)) continue;
		messages(echoed);
		while (turn(0)) messages(echoed); /* sends too */
	}
	return 0;
}

static double first; /* when the first event came */

static void happened(char *body, long size)
{
	char *stamp = memmem(body, size, "\"X-Sent-Us\":\"", 13);
	if (!done) first = arrived;
	if (stamp && timed < total) times[timed++] = now(CLOCK_REALTIME) - atof(stamp + 13);
	done++;
}

static void event_message(char *head, char *body, long size)
{
	(void)head;
	happened(body, size);
}

static int events(char **argument)
{
	total = atol(argument[3]);
	times = room_for(total, sizeof *times);
	nats(argument[0], argument[1], argument[2]);
	ready();
	double until = now(CLOCK_MONOTONIC) + atof(argument[4]) * 1e6, left;
	while (done < total && (left = until - now(CLOCK_MONOTONIC)) > 0 && turn(left)) messages(event_message);
	return report(first, arrived);
}

/* -- the event socket */

/* Hands on every whole frame; one ends where its Content-Length, if any, says. Returns how many there were. */
static long frames(taker *take)
{
	size_t at = 0;
	long found = 0;
	for (;;) {
		char *head = input + at, *end = strstr(head, "\n\n");
		if (!end) break;
		*end = 0;
		char *length = strstr(head, "Content-Length: ");
		long size = length ? atol(length + 16) : 0;
		if (end + 2 + size > input + held) { *end = '\n'; break; }
		if (take) take(head, end + 2, size);
		at = end + 2 + size - input;
		found++;
	}
	taken(at);
	return found;
}

static void event_socket(const char *host, const char *port, const char *password)
{
	dial(host, port);
	say("auth ", 5);
	say(password, strlen(password));
	say("\n\n", 2);
	for (long got = 0; got < 2; got += frames(NULL)) if (!turn(5e6)) die("no reply to auth");
}

static int esl(char **argument)
{
	char line[1024];
	int size = snprintf(line, sizeof line, "api %s\n\n", argument[3]);
	total = atol(argument[4]);
	long window = atol(argument[5]), oldest = 0;
	times = room_for(total, sizeof *times);
	since = room_for(window, sizeof *since);
	event_socket(argument[0], argument[1], argument[2]);
	double start = arrived = now(CLOCK_MONOTONIC);
	while (done < total) {
		while (sent < total && sent - done < window) {
			since[sent++ % window] = arrived;
			say(line, size);
		}
		if (!turn(30e6)) break;
		for (long got = frames(NULL); got; got--, done++) times[timed++] = arrived - since[oldest++ % window];
	}
	return report(start, arrived);
}

static void event_frame(char *head, char *body, long size)
{
	if (strstr(head, "text/event-json")) happened(body, size);
}

static int listen_to(char **argument)
{
	char line[256];
	double nudge = atof(argument[6]) * 1e3;
	total = atol(argument[4]);
	times = room_for(total, sizeof *times);
	event_socket(argument[0], argument[1], argument[2]);
	say(line, snprintf(line, sizeof line, "event json CUSTOM %s\n\n", argument[3]));
	if (!turn(5e6) || !frames(NULL)) die("not subscribed");
	ready();
	double until = now(CLOCK_MONOTONIC) + atof(argument[5]) * 1e6, left;
	while (done < total && (left = until - now(CLOCK_MONOTONIC)) > 0) {
		if (turn(nudge && nudge < left ? nudge : left)) frames(event_frame);
		else if (nudge) say("\n", 1);
	}
	return report(first, arrived);
}

static int fire(char **argument)
{
	char line[1024];
	const char *command = argument[5];
	double rate = atof(argument[4]);
	total = atol(argument[3]);
	times = room_for(0, sizeof *times);
	event_socket(argument[0], argument[1], argument[2]);
	double start = arrived = now(CLOCK_MONOTONIC);
	while (done < total) {
		double wait = 30e6;
		if (sent < total && sent - done < (rate ? 1000 : 100)) {
			wait = rate ? start + sent / rate * 1e6 - now(CLOCK_MONOTONIC) : 0;
			if (wait <= 0) {
				/* A small event: FreeSWITCH reads the headers of a sendevent one byte a system call. */
				say(line, command ? snprintf(line, sizeof line, "%s\n\n", command)
					: snprintf(line, sizeof line, "sendevent CUSTOM\nEvent-Subclass: bench::event\nX-Sent-Us: %.0f\n\n",
							   now(CLOCK_REALTIME)));
				sent++;
				wait = 0;
			}
		}
		if (turn(wait)) done += frames(NULL);
		else if (wait >= 30e6) break;
	}
	return report(start, arrived);
}

int main(int argc, char **argv)
{
	static const struct { const char *name; int arguments; int (*run)(char **); } modes[] = {
		{"commands", 6, commands}, {"echo", 4, echo}, {"events", 5, events}, {"esl", 6, esl}, {"listen", 7, listen_to},
		{"fire", 5, fire},
	};
	space(1 << 16);
	for (size_t each = 0; argc > 1 && each < sizeof modes / sizeof *modes; each++)
		if (!strcmp(argv[1], modes[each].name) && argc - 2 >= modes[each].arguments) return modes[each].run(argv + 2);
	fputs("see the top of load.c\n", stderr);
	return 2;
}
