#include <stdlib.h>
#include <string.h>

#include "config/conf.h"

#define SFTP		"sftp://"
#define WORD		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

/* ${n} bytes of ${p}, all of them among ${allowed}, and no option like "-oProxyCommand". */
static int
plain(const char *p, size_t n, const char *allowed)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (strchr(allowed, p[i]) == NULL)
			return (0);
	}
	return (n > 0 && p[0] != '-');
}

/* The ${n} bytes after ":", a port from 1 to 65535, or -1. */
static int
port_parse(const char *p, size_t n)
{
	int port = 0;
	size_t i;

	if (n < 1 || n > 5 || p[0] == '0')
		return (-1);
	for (i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return (-1);
		port = port * 10 + (p[i] - '0');
	}
	return (port <= 65535 ? port : -1);
}

static int
copy(char **out, const char *p, size_t n, struct err *err)
{
	return ((*out = strndup(p, n)) == NULL ? err_nomem(err) : 0);
}

/* [user@]host[:port], the ${n} bytes at ${p}. */
static int
authority_parse(const char *text, const char *p, size_t n, struct conf_url *u, struct err *err)
{
	const char *at = memchr(p, '@', n), *end = p + n, *host, *host_end;
	const char *allowed = WORD ".-_";

	if (at != NULL && !plain(p, (size_t)(at - p), WORD "._-"))
		return (err_set(err, 0, "\"%.200s\": the user before \"@\" is empty or has an unusual character", text));
	if (at != NULL && copy(&u->user, p, (size_t)(at - p), err) == -1)
		return (-1);
	host = at == NULL ? p : at + 1;
	if (host < end && *host == '[') {
		allowed = "0123456789abcdefABCDEF:.";
		host++;
		if ((host_end = memchr(host, ']', (size_t)(end - host))) == NULL)
			return (err_set(err, 0, "\"%.200s\": \"]\" is missing after the address", text));
		p = host_end + 1;
	} else {
		if ((host_end = memchr(host, ':', (size_t)(end - host))) == NULL)
			host_end = end;
		p = host_end;
	}
	if (!plain(host, (size_t)(host_end - host), allowed))
		return (err_set(err, 0, "\"%.200s\": the host is empty or has an unusual character", text));
	if (p < end && (*p != ':' || (u->port = port_parse(p + 1, (size_t)(end - p - 1))) == -1))
		return (err_set(err, 0, "\"%.200s\": the port after \":\" is a number from 1 to 65535", text));
	return (copy(&u->host, host, (size_t)(host_end - host), err));
}

int
conf_url_parse(const char *text, struct conf_url *out, struct err *err)
{
	const char *rest, *path;

	*out = (struct conf_url){ .kind = CONF_URL_LOCAL };
	if (text[0] == '/')
		return (copy(&out->path, text, strlen(text), err));
	if (strncmp(text, SFTP, strlen(SFTP)) != 0)
		return (err_set(err, 0, "\"%.200s\": expected an absolute path or sftp://[user@]host[:port]/path", text));
	out->kind = CONF_URL_SFTP;
	rest = text + strlen(SFTP);
	if ((path = strchr(rest, '/')) == NULL) {
		err_set(err, 0, "\"%.200s\": the path after the host is missing", text);
		goto fail;
	}
	if (authority_parse(text, rest, (size_t)(path - rest), out, err) == -1 ||
	    copy(&out->path, path, strlen(path), err) == -1)
		goto fail;
	return (0);
fail:
	conf_url_free(out);
	return (-1);
}

void
conf_url_free(struct conf_url *u)
{
	free(u->user);
	free(u->host);
	free(u->path);
	*u = (struct conf_url){ .kind = CONF_URL_LOCAL };
}
