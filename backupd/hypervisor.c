#include "hypervisor.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/human.h"
#include "deadline.h"
#include "repository/naming.h"

#define KEEPALIVE_S	5
#define KEEPALIVE_COUNT	3
#define RETRY_MS	500
#define CONNECT_SECONDS	60
#define DEADLINES	8u

/* Deadlines of calls that are under way; guarded by the lock. */
struct deadline {
	bool		 armed;
	unsigned int	 seconds;
	int64_t		 until;
	char		 doing[128];
};

static struct {
	pthread_mutex_t	 lock;
	pthread_cond_t	 wake;
	struct deadline	 v[DEADLINES];
} watch = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Those of this thread, the innermost last. */
static _Thread_local struct deadline *mine[DEADLINES];
static _Thread_local unsigned int nmine;

static void
be_silent(void *arg, virErrorPtr e)
{
	(void)arg;
	(void)e;
}

static void *
event_main(void *arg)
{
	(void)arg;
	for (;;)
		if (virEventRunDefaultImpl() == -1)
			deadline_nap(100);
	return (NULL);
}

/* The next one to pass, or NULL. */
static const struct deadline *
next_deadline(void)
{
	const struct deadline *next = NULL;

	for (unsigned int i = 0; i < DEADLINES; i++)
		if (watch.v[i].armed && (next == NULL || watch.v[i].until < next->until))
			next = &watch.v[i];
	return (next);
}

static void *
watch_main(void *arg)
{
	const struct deadline *next;

	(void)arg;
	pthread_mutex_lock(&watch.lock);
	for (;;) {
		if ((next = next_deadline()) == NULL)
			pthread_cond_wait(&watch.wake, &watch.lock);
		else if (deadline_left(next->until) > 0)
			deadline_wait(&watch.wake, &watch.lock, next->until);
		else {
			dprintf(STDERR_FILENO, "virt-backupd: libvirt did not %s within %u s; giving up.  What was begun is settled by the next run, "
			    "or by virt-backupd --reconcile\n", next->doing, next->seconds);
			_exit(1);
		}
	}
	return (NULL);
}

static void
start_threads(void)
{
	pthread_t t;

	deadline_cond_init(&watch.wake);
	virSetErrorFunc(NULL, be_silent);
	if (virInitialize() == 0 && virEventRegisterDefaultImpl() == 0 && pthread_create(&t, NULL, event_main, NULL) == 0)
		pthread_detach(t);
	if (pthread_create(&t, NULL, watch_main, NULL) == 0)
		pthread_detach(t);
}

/* Some of it may be what a guest's agent said: one line, and no bytes that are no text. */
static void
make_printable(char *text)
{
	bool valid;

	for (char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = ' ';
	valid = utf8_valid(text);
	for (char *p = text; *p != '\0' && !valid; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	human_safe(text);
}

int
hypervisor_failed(struct err *err, const char *fmt, ...)
{
	const char *why = virGetLastErrorMessage();
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err_set(err, 0, "%s: %s", text, why);
	make_printable(err->text);
	return (-1);
}

static int
connect_to(struct hypervisor *hv, struct err *err)
{
	/* Keepalives begin when it is open. */
	hypervisor_deadline(CONNECT_SECONDS, "take a connection");
	hv->conn = virConnectOpen(hv->uri);
	hypervisor_met();
	if (hv->conn == NULL)
		return (hypervisor_failed(err, "cannot connect to libvirt at %s (does libvirtd run, and may this user call it?)", hv->uri));
	/* Drivers within the process (test:///) have nothing to keep alive. */
	virConnectSetKeepAlive(hv->conn, KEEPALIVE_S, KEEPALIVE_COUNT);
	return (0);
}

struct hypervisor *
hypervisor_open(const char *uri, struct err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct hypervisor *hv = calloc(1, sizeof(*hv));

	if (hv == NULL || (hv->uri = strdup(uri)) == NULL) {
		free(hv);
		err_nomem(err);
		return (NULL);
	}
	pthread_mutex_init(&hv->lock, NULL);
	pthread_once(&once, start_threads);
	if (connect_to(hv, err) == -1) {
		hypervisor_close(hv);
		return (NULL);
	}
	return (hv);
}

void
hypervisor_close(struct hypervisor *hv)
{
	if (hv == NULL)
		return;
	if (hv->conn != NULL)
		virConnectClose(hv->conn);
	pthread_mutex_destroy(&hv->lock);
	free(hv->uri);
	free(hv);
}

/* With the lock held. */
static virDomainPtr
look_up(struct hypervisor *hv, const char *uuid, struct err *err)
{
	virDomainPtr dom;

	if (hv->conn != NULL && virConnectIsAlive(hv->conn) != 1) {
		virConnectClose(hv->conn);
		hv->conn = NULL;
	}
	if (hv->conn == NULL && connect_to(hv, err) == -1)
		return (NULL);
	if ((dom = virDomainLookupByUUIDString(hv->conn, uuid)) != NULL)
		return (dom);
	hypervisor_failed(err, "cannot find the domain %s", uuid);
	if (virGetLastErrorCode() == VIR_ERR_NO_DOMAIN)
		err->code = ENOENT;
	return (NULL);
}

virDomainPtr
hypervisor_domain(struct hypervisor *hv, const char *uuid, unsigned int seconds, struct err *err)
{
	int64_t until = deadline_now() + (int64_t)seconds * 1000;
	virDomainPtr dom;

	for (;;) {
		pthread_mutex_lock(&hv->lock);
		dom = look_up(hv, uuid, err);
		pthread_mutex_unlock(&hv->lock);
		if (dom != NULL || err->code == ENOENT || deadline_left(until) == 0)
			return (dom);
		deadline_nap(RETRY_MS);
	}
}

void
hypervisor_deadline(unsigned int seconds, const char *doing)
{
	struct deadline *d = watch.v;

	pthread_mutex_lock(&watch.lock);
	while (d->armed)
		if (++d == watch.v + DEADLINES)
			abort();
	*d = (struct deadline){ .armed = true, .seconds = seconds, .until = deadline_now() + (int64_t)seconds * 1000 };
	snprintf(d->doing, sizeof(d->doing), "%s", doing);
	mine[nmine++] = d;
	pthread_cond_signal(&watch.wake);
	pthread_mutex_unlock(&watch.lock);
}

void
hypervisor_met(void)
{
	pthread_mutex_lock(&watch.lock);
	mine[--nmine]->armed = false;
	pthread_cond_signal(&watch.wake);
	pthread_mutex_unlock(&watch.lock);
}
