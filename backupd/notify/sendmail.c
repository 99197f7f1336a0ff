/* A message to the host's own mail system. */
#include <stdlib.h>

#include "../command.h"
#include "channels.h"

int
sendmail_send(const struct conf_mail *m, const char *message, struct err *err)
{
	const char **argv = calloc(m->to.n + 7, sizeof(*argv));
	struct command c = { .argv = argv, .input = message, .timeout_ms = (int64_t)m->timeout * 1000 };
	size_t n = 0;
	int rc;

	if (argv == NULL)
		return (err_nomem(err));
	argv[n++] = m->sendmail;
	argv[n++] = "-i";
	if (m->from != NULL) {
		argv[n++] = "-f";
		argv[n++] = m->from;
	}
	argv[n++] = "--";
	for (size_t i = 0; i < m->to.n; i++)
		argv[n++] = m->to.v[i];
	rc = command_run(&c, err);
	free(argv);
	return (rc == 0 ? 0 : err_wrap(err, "%s", m->sendmail));
}
