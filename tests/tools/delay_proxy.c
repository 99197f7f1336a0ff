/*
 * A long line on loopback: bytes to and from a port of this host, each way so many milliseconds late, and as many at a time as there are.
 *
 *	delay_proxy PORT MILLISECONDS		prints the port on which it listens; ends when its standard input does
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PIECE		65536
#define LATE_MAX	((size_t)256 << 20)	/* bytes under way: no line of a test holds more */

struct piece {
	struct piece	*next;
	struct timespec	 due;
	size_t		 n;		/* 0: the end */
	char		 bytes[PIECE];
};

/* One direction of a connection. */
struct way {
	int		 from, to;
	pthread_mutex_t	 lock;
	pthread_cond_t	 changed;
	struct piece	*first, **last;
	size_t		 late;		/* bytes under way */
};

static int target_port, delay_ms;

static void
die(const char *what)
{
	perror(what);
	exit(1);
}

static void *
take_in(void *arg)
{
	struct way *w = arg;
	struct piece *p;
	ssize_t n;

	do {
		if ((p = malloc(sizeof(*p))) == NULL)
			die("malloc");
		n = recv(w->from, p->bytes, sizeof(p->bytes), 0);
		p->n = n > 0 ? (size_t)n : 0;
		p->next = NULL;
		clock_gettime(CLOCK_MONOTONIC, &p->due);
		p->due.tv_nsec += delay_ms % 1000 * 1000000L;
		p->due.tv_sec += delay_ms / 1000 + p->due.tv_nsec / 1000000000;
		p->due.tv_nsec %= 1000000000;
		pthread_mutex_lock(&w->lock);
		while (w->late > LATE_MAX)
			pthread_cond_wait(&w->changed, &w->lock);
		*w->last = p;
		w->last = &p->next;
		w->late += p->n;
		pthread_cond_broadcast(&w->changed);
		pthread_mutex_unlock(&w->lock);
	} while (n > 0);
	return (NULL);
}

static struct piece *
next_piece(struct way *w)
{
	struct piece *p;

	pthread_mutex_lock(&w->lock);
	while (w->first == NULL)
		pthread_cond_wait(&w->changed, &w->lock);
	p = w->first;
	if ((w->first = p->next) == NULL)
		w->last = &w->first;
	w->late -= p->n;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	return (p);
}

static void *
give_out(void *arg)
{
	struct way *w = arg;
	struct piece *p;
	bool end, broken = false;
	ssize_t r;

	do {
		p = next_piece(w);
		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &p->due, NULL) != 0)
			;
		for (size_t at = 0; at < p->n && !broken; at += (size_t)r)
			if ((r = send(w->to, p->bytes + at, p->n - at, MSG_NOSIGNAL)) == -1)
				broken = true;
		end = p->n == 0;
		free(p);
	} while (!end);
	shutdown(w->to, SHUT_WR);
	return (NULL);
}

static void
begin_way(int from, int to)
{
	struct way *w = calloc(1, sizeof(*w));	/* lives as long as we do */
	pthread_t in, out;

	if (w == NULL)
		die("calloc");
	*w = (struct way){ .from = from, .to = to, .last = &w->first };
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->changed, NULL);
	if (pthread_create(&in, NULL, take_in, w) != 0 || pthread_create(&out, NULL, give_out, w) != 0)
		die("pthread_create");
	pthread_detach(in);
	pthread_detach(out);
}

static void *
accept_all(void *arg)
{
	int listener = *(int *)arg, near, far;
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)target_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	while ((near = accept(listener, NULL, NULL)) != -1) {
		if ((far = socket(AF_INET, SOCK_STREAM, 0)) == -1 || connect(far, (struct sockaddr *)&to, sizeof(to)) == -1) {
			close(near);
			continue;
		}
		setsockopt(near, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		setsockopt(far, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		begin_way(near, far);
		begin_way(far, near);
	}
	return (NULL);
}

int
main(int argc, char **argv)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	pthread_t t;
	char c;

	if (argc != 3) {
		fprintf(stderr, "usage: delay_proxy PORT MILLISECONDS\n");
		return (2);
	}
	target_port = atoi(argv[1]);
	delay_ms = atoi(argv[2]);
	if (listener == -1 || bind(listener, (struct sockaddr *)&at, len) == -1 || listen(listener, 50) == -1 ||
	    getsockname(listener, (struct sockaddr *)&at, &len) == -1)
		die("listen");
	printf("%d\n", ntohs(at.sin_port));
	fflush(stdout);
	if (pthread_create(&t, NULL, accept_all, &listener) != 0)
		die("pthread_create");
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	return (0);
}
