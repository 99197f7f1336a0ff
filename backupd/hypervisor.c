#include "hypervisor.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "deadline.h"

#define KEEPALIVE_S	5
#define KEEPALIVE_COUNT	3
#define RETRY_MS	500

/* The deadline of the call that is under way; guarded by the lock. */
static struct {
	pthread_mutex_t	 lock;
	pthread_cond_t	 wake;
	bool		 armed;
	unsigned int	 seconds;
	int64_t		 until;
	char		 doing[256];
} watch = { .lock = PTHREAD_MUTEX_INITIALIZER };

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

static void *
watch_main(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&watch.lock);
	for (;;) {
		if (!watch.armed) {
			pthread_cond_wait(&watch.wake, &watch.lock);
			continue;
		}
		if (deadline_wait(&watch.wake, &watch.lock, watch.until) == ETIMEDOUT && watch.armed) {
			dprintf(STDERR_FILENO, "virt-backupd: libvirt did not %s within %u s; giving up.  What was begun is settled by the next run, "
			    "or by virt-backupd --reconcile\n", watch.doing, watch.seconds);
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

int
hypervisor_failed(struct err *err, const char *fmt, ...)
{
	const char *why = virGetLastErrorMessage();
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return (err_set(err, 0, "%s: %s", text, why));
}

static int
connect_to(struct hypervisor *hv, struct err *err)
{
	if ((hv->conn = virConnectOpen(hv->uri)) == NULL)
		return (hypervisor_failed(err, "cannot connect to libvirt at %s", hv->uri));
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
	free(hv->uri);
	free(hv);
}

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

	while ((dom = look_up(hv, uuid, err)) == NULL && err->code != ENOENT && deadline_left(until) > 0)
		deadline_nap(RETRY_MS);
	return (dom);
}

void
hypervisor_deadline(unsigned int seconds, const char *doing)
{
	pthread_mutex_lock(&watch.lock);
	snprintf(watch.doing, sizeof(watch.doing), "%s", doing);
	watch.until = deadline_now() + (int64_t)seconds * 1000;
	watch.seconds = seconds;
	watch.armed = true;
	pthread_cond_signal(&watch.wake);
	pthread_mutex_unlock(&watch.lock);
}

void
hypervisor_met(void)
{
	pthread_mutex_lock(&watch.lock);
	watch.armed = false;
	pthread_cond_signal(&watch.wake);
	pthread_mutex_unlock(&watch.lock);
}
