#include "config/conf_text.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_DEPTH	10	/* a file that includes itself ends here */
#define MAX_FILES	1000

/* One file on its way into the text. */
struct input {
	struct lex	 lx;
	const char	*done;		/* taken over to the output up to here */
	const char	*file;
	size_t		 index;		/* of file in the text's files */
	int		 depth;		/* 0: not included */
};

static int expand(struct conf_text *, const char *, size_t, const char *, int, struct err *);

static int
too_large(struct err *err)
{
	return (err_set(err, 0, "larger than %d bytes, included files counted: is it a configuration?", CONF_MAX_BYTES));
}

/* Not libconfig's fopen(): neither a folder nor a pipe without a writer may end or stop the program. */
static int
read_file(const char *path, struct buf *b, struct err *err)
{
	struct stat st;
	ssize_t n;
	int fd, rc = -1;

	if ((fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)) == -1 || fstat(fd, &st) == -1) {
		err_set(err, errno, "cannot open %s", path);
		goto out;
	}
	if (!S_ISREG(st.st_mode)) {
		err_set(err, 0, "cannot read %s: not a regular file", path);
		goto out;
	}
	/* It says which files are read and written, and where to, with all that the daemon may. */
	if ((st.st_mode & S_IWOTH) != 0) {
		err_set(err, 0, "%s: everybody may write to it: chmod o-w it", path);
		goto out;
	}
	do {
		if (buf_reserve(b, 65536, err) == -1)
			goto out;
		if ((n = read(fd, b->ptr + b->len, 65536)) == -1) {
			err_set(err, errno, "cannot read %s", path);
			goto out;
		}
		b->len += (size_t)n;
	} while (n > 0 && b->len <= CONF_MAX_BYTES);
	if (n > 0) {
		too_large(err);
		err_wrap(err, "%s", path);
		goto out;
	}
	rc = 0;
out:
	if (fd != -1)
		close(fd);
	return (rc);
}

/* Give the text that follows the place ${line} of the file. */
static int
add_span(struct conf_text *t, size_t file, int line, struct err *err)
{
	struct conf_span *p;

	if ((p = realloc(t->spans, (t->nspans + 1) * sizeof(*p))) == NULL)
		return (err_nomem(err));
	t->spans = p;
	t->spans[t->nspans++] = (struct conf_span){ t->line, line, file };
	return (0);
}

static int
add_file(struct conf_text *t, const char *name, struct err *err)
{
	char **p;

	if ((p = realloc(t->files, (t->nfiles + 1) * sizeof(*p))) == NULL)
		return (err_nomem(err));
	t->files = p;
	if ((t->files[t->nfiles] = strdup(name)) == NULL)
		return (err_nomem(err));
	t->nfiles++;
	return (0);
}

static int
add_text(struct conf_text *t, const char *p, size_t n, struct err *err)
{
	size_t i;

	if (t->out.len + n > CONF_MAX_BYTES + 1)	/* 1: the newline that we add */
		return (too_large(err));
	for (i = 0; i < n; i++)
		t->line += p[i] == '\n';
	return (buf_add(&t->out, p, n, err));
}

/* Say where: every function below places its own errors. */
static int
place(const struct input *in, int line, struct err *err)
{
	return (err_wrap(err, "%s:%d", in->file, line));
}

/* Take what is left up to ${end} over to the output. */
static int
copy(struct conf_text *t, struct input *in, const char *end, struct err *err)
{
	if (add_text(t, in->done, (size_t)(end - in->done), err) == -1)
		return (place(in, in->lx.line, err));
	in->done = end;
	return (0);
}

/* Put an included file in the place of its directive.  Its path is relative to the folder of the file that includes it. */
static int
include(struct conf_text *t, struct input *in, const struct lex_token *tok, struct err *err)
{
	struct buf path = BUF_INIT, text = BUF_INIT;
	const char *slash = strrchr(in->file, '/');
	int folder = tok->path[0] == '/' || slash == NULL ? 0 : (int)(slash + 1 - in->file);
	int rc = -1;

	if (!t->includes)
		err_set(err, 0, "@include is not allowed here");
	else if (in->depth == MAX_DEPTH)
		err_set(err, 0, "@include: more than %d files inside each other", MAX_DEPTH);
	else if (t->nfiles == MAX_FILES)
		err_set(err, 0, "@include: more than %d files", MAX_FILES);
	else if (buf_addf(&path, err, "%.*s%.*s", folder, in->file, (int)tok->path_len, tok->path) == 0 &&
	    read_file(path.ptr, &text, err) == 0)
		rc = 0;
	if (rc == -1)
		place(in, tok->line, err);
	else
		rc = expand(t, text.ptr, text.len, path.ptr, in->depth + 1, err);
	in->done = tok->at + tok->len;
	if (rc == 0)
		rc = add_span(t, in->index, tok->line, err);
	buf_free(&path);
	buf_free(&text);
	return (rc);
}

/* Account for one token, and replace it if it is an @include. */
static int
take(struct conf_text *t, struct input *in, const struct lex_token *tok, struct err *err)
{
	if (tok->kind == LEX_INCLUDE)
		return (copy(t, in, tok->at, err) == -1 ? -1 : include(t, in, tok, err));
	if (tok->kind == LEX_END && in->depth > 0)
		return (0);
	if (copy(t, in, tok->at + tok->len, err) == -1)
		return (-1);
	if (check_token(t->check, tok, t->out.ptr, t->out.len - tok->len, in->file, err) == -1)
		return (place(in, tok->line, err));
	return (0);
}

static int
expand(struct conf_text *t, const char *text, size_t len, const char *name, int depth, struct err *err)
{
	struct input in = { { text, text + len, 1, 1 }, text, NULL, t->nfiles, depth };
	struct lex_token tok;
	const char *nul;

	if (add_file(t, name, err) == -1 || add_span(t, in.index, 1, err) == -1)
		return (-1);
	in.file = t->files[in.index];
	if ((nul = memchr(text, '\0', len)) != NULL) {
		for (; in.lx.p < nul; in.lx.p++)
			in.lx.line += *in.lx.p == '\n';
		err_set(err, 0, "a NUL byte: this is not a text file");
		return (place(&in, in.lx.line, err));
	}
	do {
		if (lex_next(&in.lx, &tok, err) == -1)
			return (place(&in, in.lx.line, err));
		if (take(t, &in, &tok, err) == -1)
			return (-1);
	} while (tok.kind != LEX_END);
	/* The newline: libconfig takes a comment that ends without one for garbage. */
	return (copy(t, &in, in.lx.end, err) == -1 || add_text(t, "\n", 1, err) == -1 ? -1 : 0);
}

int
conf_text_parse(struct conf_text *t, const char *text, size_t len, const char *name, struct err *err)
{
	if (len > CONF_MAX_BYTES) {
		too_large(err);
		return (err_wrap(err, "%s", name));
	}
	if ((t->check = malloc(sizeof(*t->check))) == NULL)
		return (err_nomem(err));
	check_init(t->check);
	return (expand(t, len == 0 ? "" : text, len, name, 0, err));
}

int
conf_text_load(struct conf_text *t, const char *path, struct err *err)
{
	struct buf b = BUF_INIT;
	int rc;

	t->includes = 1;
	rc = read_file(path, &b, err);
	if (rc == -1 && err->code == ENOENT)
		err_plain(err, ENOENT, "there is no configuration %s: write one, see backupd.conf(5), or name another with --config", path);
	if (rc == 0)
		rc = conf_text_parse(t, b.ptr, b.len, path, err);
	buf_free(&b);
	return (rc);
}

struct conf_where
conf_text_where(const struct conf_text *t, int line)
{
	size_t i = t->nspans - 1;

	while (i > 0 && t->spans[i].start > line)
		i--;
	if (line < t->spans[i].start)	/* libconfig gives the root line 0 */
		line = t->spans[i].start;
	return ((struct conf_where){ t->files[t->spans[i].file], t->spans[i].line + (line - t->spans[i].start) });
}

void
conf_text_free(struct conf_text *t)
{
	size_t i;

	for (i = 0; i < t->nfiles; i++)
		free(t->files[i]);
	free(t->files);
	free(t->spans);
	free(t->check);
	buf_free(&t->out);
	*t = (struct conf_text)CONF_TEXT_INIT;
}
