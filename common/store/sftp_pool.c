#include "store/sftp_pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/thread.h"

int
pool_open(struct sftp_pool *p, const struct ssh_target *t, struct err *err)
{
	memset(p, 0, sizeof(*p));
	p->t = t;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->freed, NULL);
	return ((p->conns[0].ss = ssh_session_open(t, err)) == NULL ? -1 : 0);
}

void
pool_close(struct sftp_pool *p)
{
	if (p->begun)
		pthread_join(p->connector, NULL);
	for (int i = 0; i < SFTP_CONNS; i++) {
		free(p->conns[i].unused);
		ssh_session_close(p->conns[i].ss);
	}
	pthread_cond_destroy(&p->freed);
	pthread_mutex_destroy(&p->lock);
}

/* A connection that nobody has, the preferred one first, or -1. */
static int
choose(const struct sftp_pool *p, int prefer)
{
	if (prefer >= 0 && !p->conns[prefer].taken && p->conns[prefer].ss != NULL)
		return (prefer);
	for (int i = 0; i < SFTP_CONNS; i++)
		if (!p->conns[i].taken && p->conns[i].ss != NULL)
			return (i);
	return (-1);
}

/* Whether there will be one soon. */
static bool
worth_waiting(const struct sftp_pool *p)
{
	for (int i = 0; i < SFTP_CONNS; i++)
		if (p->conns[i].taken)
			return (true);
	return (p->connecting);
}

static void *
connect_main(void *arg)
{
	struct sftp_pool *p = arg;
	struct err why = ERR_INIT;
	struct ssh_session *ss = ssh_session_open(p->t, &why);

	pthread_mutex_lock(&p->lock);
	if (ss == NULL) {
		p->full = true;
		p->refused = why;
	} else {
		p->conns[p->place].ss = ss;
		p->conns[p->place].gen++;
	}
	p->connecting = false;
	pthread_cond_broadcast(&p->freed);
	pthread_mutex_unlock(&p->lock);
	return (NULL);
}

/* One more connection, while everybody goes on with those that there are: logging in takes ten round trips. */
static void
connect_more(struct sftp_pool *p)
{
	int i = 0;

	while (i < SFTP_CONNS && p->conns[i].ss != NULL)
		i++;
	if (i == SFTP_CONNS || p->full || p->connecting)
		return;
	if (p->begun)
		pthread_join(p->connector, NULL);	/* it has ended */
	p->place = i;
	p->begun = p->connecting = thread_start(&p->connector, connect_main, p, &p->refused) == 0;
	p->full = !p->connecting;
}

/* With the lock: wait for our turn, and take a connection.  Fails: -1. */
static int
take_free(struct sftp_pool *p, int prefer, struct err *err)
{
	uint64_t turn = p->came++;
	int i = -1;

	while (!p->lost) {
		if (turn == p->went) {
			if ((i = choose(p, prefer)) != -1)
				break;
			connect_more(p);
			if (!worth_waiting(p))
				break;
		}
		pthread_cond_wait(&p->freed, &p->lock);
	}
	p->went++;
	pthread_cond_broadcast(&p->freed);
	if (p->lost) {
		*err = p->why;
		return (-1);
	}
	if (i != -1) {
		p->conns[i].taken = true;
		return (i);
	}
	*err = p->refused;
	return (err_wrap(err, "%s must allow one more connection at a time", p->t->label));
}

int
pool_take(struct sftp_pool *p, int prefer, struct err *err)
{
	int i;

	pthread_mutex_lock(&p->lock);
	i = take_free(p, prefer, err);
	pthread_mutex_unlock(&p->lock);
	if (i == -1 || ssh_begin(p->conns[i].ss, err) == 0)
		return (i);
	pool_give(p, i);
	return (-1);
}

/* With the lock, which is given up meanwhile. */
static void
close_unused(struct sftp_pool *p, int i)
{
	struct sftp_conn *c = &p->conns[i];
	LIBSSH2_SFTP_HANDLE *h;

	while (c->nunused > 0) {
		h = c->unused[--c->nunused];
		pthread_mutex_unlock(&p->lock);
		ssh_handle_close(c->ss, h);
		pthread_mutex_lock(&p->lock);
	}
}

void
pool_drop(struct sftp_pool *p, int i, unsigned int gen, LIBSSH2_SFTP_HANDLE *h)
{
	struct sftp_conn *c = &p->conns[i];
	LIBSSH2_SFTP_HANDLE **v;
	bool idle = false;

	pthread_mutex_lock(&p->lock);
	if (c->ss != NULL && c->gen == gen && (v = realloc(c->unused, (c->nunused + 1) * sizeof(h))) != NULL) {
		c->unused = v;
		v[c->nunused++] = h;
		idle = !c->taken;
		c->taken = true;
	}
	pthread_mutex_unlock(&p->lock);
	if (idle) {
		ssh_begin(c->ss, &(struct err)ERR_INIT);
		pool_give(p, i);
	}
}

void
pool_give(struct sftp_pool *p, int i)
{
	pthread_mutex_lock(&p->lock);
	close_unused(p, i);
	if (p->conns[i].ss->dead && !p->lost) {
		p->lost = true;
		p->why = p->conns[i].ss->why;
	}
	p->conns[i].taken = false;
	pthread_cond_broadcast(&p->freed);
	pthread_mutex_unlock(&p->lock);
}

void
pool_spoil(struct sftp_pool *p, int i)
{
	struct ssh_session *ss;

	pthread_mutex_lock(&p->lock);
	ss = p->conns[i].ss;
	if (ss->dead && !p->lost) {
		p->lost = true;
		p->why = ss->why;
	}
	p->conns[i].ss = NULL;
	p->conns[i].gen++;
	p->conns[i].nunused = 0;
	p->conns[i].taken = false;
	pthread_cond_broadcast(&p->freed);
	pthread_mutex_unlock(&p->lock);
	ss->dead = true;	/* no goodbye: it could not be understood */
	ssh_session_close(ss);
}
