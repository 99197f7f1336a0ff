/* virt-restore file: one small member of a restore point, such as domain.xml. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "archive/member_reader.h"
#include "base/human.h"
#include "base/io.h"
#include "opened.h"
#include "partial.h"

/* Which files there are, for somebody who named another. */
static int
no_such_file(const struct index_reader *ix, const char *point, const char *name, struct err *err)
{
	struct buf names = BUF_INIT;
	struct index_member m;

	for (uint32_t i = 0; i < index_members(ix); i++)
		if (index_member(ix, i, &m, err) == -1 || buf_addf(&names, err, " %s", m.name) == -1)
			break;
	err_plain(err, ENOENT, "%s has no file \"%s\"; it has:%s", point, name, names.ptr != NULL ? names.ptr : " none");
	buf_free(&names);
	return (-1);
}

static int
write_all(int fd, const char *name, const struct buf *data, struct err *err)
{
	struct store_file *f = store_stream_wrap(fd, name, err);
	int rc = f != NULL ? store_append(f, data->ptr, data->len, err) : -1;

	store_file_close(f);
	return (rc);
}

static int
write_target(const struct buf *data, const char *path, bool force, struct err *err)
{
	struct partial p = PARTIAL_INIT;
	int fd = -1, rc = -1;

	if (partial_begin(&p, path, force, err) == -1 || (fd = partial_create(&p, err)) == -1)
		goto out;
	leave_behind(p.left);
	if (write_all(fd, p.temporary, data, err) == -1)
		goto out;
	rc = interrupted ? err_plain(err, EINTR, "stopped; nothing was kept") : partial_publish(&p, fd, err);
out:
	leave_behind(NULL);
	io_close(&fd);
	partial_end(&p);
	return (rc);
}

int
command_file(const struct options *o)
{
	const char *name = o->args[1], *target = o->nargs > 2 ? o->args[2] : "-";
	struct opened op = OPENED_INIT;
	struct buf data = BUF_INIT;
	struct err err = ERR_INIT;
	struct archive_reader *ar;
	char size[HUMAN_LEN];
	uint32_t n;
	int rc = -1;

	if (open_point(o, o->args[0], &op, &err) == -1)
		goto out;
	ar = archive_set_first(op.set);
	if ((n = index_member_find(ar->ix, name)) == UINT32_MAX)
		no_such_file(ar->ix, o->archive != NULL ? o->archive : o->args[0], name, &err);
	else if (member_read(ar, n, &data, &err) == 0)
		rc = strcmp(target, "-") == 0 ? write_all(STDOUT_FILENO, "standard output", &data, &err) :
		    write_target(&data, target, o->force, &err);
out:
	if (rc == -1)
		rc = print_error(&err);
	else if (strcmp(target, "-") != 0)
		printf("%s: %s\n", target, human_size(data.len, size));
	buf_free(&data);
	opened_close(&op);
	return (rc);
}
