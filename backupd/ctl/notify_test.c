/* virt-backupctl notify-test: does somebody hear it when a backup fails? */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/human.h"
#include "client.h"
#include "options.h"

#define LOOK_US	100000

/* Begin it.  Returns its number, or -1. */
static long long
begin(const struct options *o, struct client *c, struct err *err)
{
	json_t *body = json_pack("{s:s*}", "job", o->job), *answer = NULL;
	long long id = -1;

	if (body == NULL)
		err_set(err, 0, "the job's name is no UTF-8");
	else if ((answer = client_post(c, "/v1/notify-test", body, err)) != NULL) {
		if (json_is_integer(json_object_get(answer, "id")))
			id = json_integer_value(json_object_get(answer, "id"));
		else
			err_set(err, 0, "the daemon did not say which test it is");
	}
	json_decref(answer);
	json_decref(body);
	return (id);
}

/* The daemon itself sees to it that it ends. */
static json_t *
wait_for(struct client *c, long long id, struct err *err)
{
	char path[64];
	json_t *test;

	snprintf(path, sizeof(path), "/v1/notify-test/%lld", id);
	while ((test = client_get(c, path, err)) != NULL && !json_is_true(json_object_get(test, "finished"))) {
		json_decref(test);
		if (interrupted) {
			err_set(err, 0, "the test goes on without being waited for: what comes of it is in the daemon's log");
			return (NULL);
		}
		usleep(LOOK_US);
	}
	return (test);
}

static int
show(const struct options *o, const json_t *test)
{
	const json_t *channels = json_object_get(test, "channels"), *v;
	int rc = EXIT_DONE;
	char text[1200];
	size_t i;

	json_array_foreach(channels, i, v) {
		const char *channel = json_string_value(json_object_get(v, "channel")), *error = json_string_value(json_object_get(v, "error"));
		bool good = json_is_true(json_object_get(v, "ok"));

		if (!good)
			rc = EXIT_FAILED;
		if (o->json)
			continue;
		snprintf(text, sizeof(text), "%s: %s%s", channel != NULL ? channel : "?", good ? "sent" : "failed: ", good || error == NULL ? "" : error);
		puts(human_safe(text));
	}
	if (o->json)
		ctl_print_json(json_deep_copy(test), JSON_INDENT(2));
	return (rc);
}

int
command_notify_test(const struct options *o)
{
	struct err err = ERR_INIT;
	struct client *c = client_open(o->socket, &err);
	long long id = c == NULL ? -1 : begin(o, c, &err);
	json_t *test = id == -1 ? NULL : wait_for(c, id, &err);
	int rc = test == NULL ? ctl_error(&err) : show(o, test);

	json_decref(test);
	client_close(c);
	return (rc);
}
