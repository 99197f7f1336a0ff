/* The daemon's child that tells people: whatever a server does to it, nobody else waits. */
#include <stdio.h>

#include "base/human.h"
#include "notify.h"

static void
on_result(void *arg, const char *channel, const char *error)
{
	json_t *o = json_pack("{s:s, s:o}", "channel", channel, "error", error == NULL ? json_null() : json_string(error));

	(void)arg;
	/* What a server has said may be no UTF-8. */
	if (o == NULL)
		o = json_pack("{s:s, s:s}", "channel", channel, "error", "it failed, and what it says is no text");
	if (o != NULL && json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII) == 0)
		putchar('\n');
	fflush(stdout);
	json_decref(o);
}

int
notify_role_main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct conf *c = argc == 3 ? conf_load(argv[2], &err) : NULL;
	json_t *notice = json_loadf(stdin, JSON_REJECT_DUPLICATES, NULL);
	int rc = 1;

	if (c == NULL || notice == NULL)
		fprintf(stderr, "virt-backupd: cannot notify: %s\n", c == NULL ? human_safe(err.text) : "what is to be told did not come");
	else {
		notify_send(&c->notify, notice, on_result, NULL);
		rc = 0;
	}
	json_decref(notice);
	conf_free(c);
	return (rc);
}
