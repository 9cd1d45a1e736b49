/* The least that a program can do in the agent's place: a request by NATS becomes a command on an event socket, and its
 * answer a reply. It looks into neither, takes one at a time, and waits in recv, without a limit, for which the kernel
 * would set up a timer each time: two wakings a command and next to no time between them. What it takes is what any
 * agent outside FreeSWITCH takes at least.
 *
 *   relay HOST NATS_PORT SUBJECT ESL_PORT PASSWORD COMMAND      until it is killed; says "ready" first
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOM = 1 << 16 };

struct side {
	int fd;
	size_t held;
	char data[ROOM + 1]; /* always ends in a NUL */
};

static struct side nats, esl;

static void die(const char *what) { perror(what); exit(2); }

static void dial(struct side *side, const char *host, const char *port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	int one = 1;
	if (inet_pton(AF_INET, host, &to.sin_addr) != 1) die("HOST is an address");
	side->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (side->fd < 0 || connect(side->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
	setsockopt(side->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void say(struct side *side, const char *text, size_t size)
{
	if (send(side->fd, text, size, MSG_NOSIGNAL) != (ssize_t)size) die("send");
}

static void more(struct side *side)
{
	ssize_t got = recv(side->fd, side->data + side->held, ROOM - side->held, 0);
	if (got <= 0) die("recv");
	side->data[side->held += got] = 0;
}

static void taken(struct side *side, size_t size)
{
	memmove(side->data, side->data + size, side->held -= size);
	side->data[side->held] = 0;
}

/* Waits for a whole frame; returns its body, of so many bytes, and where it ends. */
static char *frame(long *size, size_t *end)
{
	for (;;) {
		char *blank = strstr(esl.data, "\n\n");
		if (blank) {
			char *length = strstr(esl.data, "Content-Length: ");
			*size = length && length < blank ? atol(length + 16) : 0;
			*end = blank + 2 + *size - esl.data;
			if (*end <= esl.held) return blank + 2;
		}
		more(&esl);
	}
}

/* Waits for a request; its reply subject goes to `reply`. */
static void request(char *reply)
{
	for (;;) {
		char *end = strchr(nats.data, '\n');
		if (!end) {
			more(&nats);
			continue;
		}
		size_t size = end + 1 - nats.data;
		if (!strncmp(nats.data, "MSG ", 4)) {
			char *count = end - 1;
			while (count[-1] != ' ') count--;
			size += atol(count) + 2;
			if (size > nats.held) {
				more(&nats);
				continue;
			}
			if (sscanf(nats.data, "MSG %*s %*s %255s", reply) != 1) die("no reply subject");
			taken(&nats, size);
			return;
		}
		if (!strncmp(nats.data, "PING", 4)) say(&nats, "PONG\r\n", 6);
		if (!strncmp(nats.data, "-ERR", 4)) die("-ERR");
		taken(&nats, size);
	}
}

int main(int argc, char **argv)
{
	char line[1024], reply[256], out[ROOM + 512];
	long size;
	size_t end;
	if (argc != 7) {
		fputs("see the top of relay.c\n", stderr);
		return 2;
	}
	dial(&esl, argv[1], argv[4]);
	say(&esl, line, snprintf(line, sizeof line, "auth %s\n\n", argv[5]));
	for (int each = 0; each < 2; each++) {
		frame(&size, &end);
		taken(&esl, end);
	}
	dial(&nats, argv[1], argv[2]);
	say(&nats, line, snprintf(line, sizeof line, "CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1}\r\n"
		"SUB %s 1\r\nPING\r\n", argv[3]));
	while (!strstr(nats.data, "PONG")) more(&nats);
	taken(&nats, nats.held);
	puts("ready");
	fflush(stdout);
	int command = snprintf(line, sizeof line, "api %s\n\n", argv[6]);
	for (;;) {
		request(reply);
		say(&esl, line, command);
		char *body = frame(&size, &end);
		if (size > ROOM - 64) size = ROOM - 64;
		while (size && body[size - 1] == '\n') size--;
		int length = 24 + size + 2; /* of what stands around the answer */
		int all = snprintf(out, sizeof out, "PUB %s %d\r\n{\"success\":true,\"data\":\"%.*s\"}\r\n", reply, length, (int)size,
						   body);
		say(&nats, out, all);
		taken(&esl, end);
	}
}
