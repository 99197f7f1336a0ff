/* virt-restore show: what is in a restore point. */
#include "opened.h"
#include "report.h"

int
command_show(const struct options *o)
{
	struct opened op = OPENED_INIT;
	struct err err = ERR_INIT;
	int rc = EXIT_DONE;

	if (o->archive != NULL) {
		if (open_point(o, "", &op, &err) == -1)
			rc = print_error(&err);
		else
			report_archive(archive_set_first(op.set), o->json);
	} else if (open_manifest(o, o->args[0], &op, &err) == -1)
		rc = print_error(&err);
	else
		report_point(&op.point, &op.manifest, report_protected(op.repo, &op.point), o->json);
	opened_close(&op);
	return (rc);
}
