/*
 * A libvirt.so.0 for tests: its domains are files in the folder $FAKE_LIBVIRT, NAME.domain with "UUID ACTIVE SAVED", and each call that changes
 * something is a line of the file "calls".  A file "no-connection", "define-fails", "start-fails" or "crash" there does what it says.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct domain {
	char	name[256], uuid[37];
	int	active, saved;
};

int virInitialize(void);
void virSetErrorFunc(void *, void (*)(void *, void *));
const char *virGetLastErrorMessage(void);
void *virConnectOpen(const char *);
int virConnectClose(void *);
void *virDomainLookupByName(void *, const char *);
void *virDomainLookupByUUIDString(void *, const char *);
const char *virDomainGetName(void *);
int virDomainGetUUIDString(void *, char *);
int virDomainIsActive(void *);
int virDomainHasManagedSaveImage(void *, unsigned int);
char *virDomainGetXMLDesc(void *, unsigned int);
void *virDomainDefineXML(void *, const char *);
int virDomainUndefineFlags(void *, unsigned int);
int virDomainCreate(void *);
int virDomainFree(void *);
int virDomainListAllCheckpoints(void *, void ***, unsigned int);
int virDomainCheckpointDelete(void *, unsigned int);
int virDomainCheckpointFree(void *);

static char *
path_of(const char *name, const char *ending)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/%s%s", getenv("FAKE_LIBVIRT"), name, ending);
	return (path);
}

static int
set(const char *name)
{
	return (access(path_of(name, ""), F_OK) == 0);
}

static void
note(const char *call, const char *what)
{
	FILE *f = fopen(path_of("calls", ""), "a");

	fprintf(f, "%s %s\n", call, what);
	fclose(f);
}

int
virInitialize(void)
{
	if (set("crash"))
		abort();
	return (0);
}

void
virSetErrorFunc(void *arg, void (*f)(void *, void *))
{
	(void)arg;
	(void)f;
}

const char *
virGetLastErrorMessage(void)
{
	return ("a made-up error");
}

void *
virConnectOpen(const char *uri)
{
	static char conn;

	note("open", uri);
	return (set("no-connection") ? NULL : &conn);
}

int
virConnectClose(void *conn)
{
	(void)conn;
	return (0);
}

void *
virDomainLookupByName(void *conn, const char *name)
{
	struct domain *d = calloc(1, sizeof(*d));
	FILE *f = fopen(path_of(name, ".domain"), "r");

	(void)conn;
	if (f == NULL || fscanf(f, "%36s %d %d", d->uuid, &d->active, &d->saved) != 3) {
		free(d);
		return (NULL);
	}
	snprintf(d->name, sizeof(d->name), "%s", name);
	fclose(f);
	return (d);
}

void *
virDomainLookupByUUIDString(void *conn, const char *uuid)
{
	DIR *dir = opendir(getenv("FAKE_LIBVIRT"));
	struct domain *d = NULL;
	struct dirent *de;
	char *dot;

	while ((de = readdir(dir)) != NULL) {
		if ((dot = strstr(de->d_name, ".domain")) == NULL)
			continue;
		*dot = '\0';
		if ((d = virDomainLookupByName(conn, de->d_name)) != NULL && strcmp(d->uuid, uuid) == 0)
			break;
		free(d);
		d = NULL;
	}
	closedir(dir);
	return (d);
}

const char *
virDomainGetName(void *dom)
{
	return (((struct domain *)dom)->name);
}

int
virDomainGetUUIDString(void *dom, char *out)
{
	strcpy(out, ((struct domain *)dom)->uuid);
	return (0);
}

int
virDomainIsActive(void *dom)
{
	return (((struct domain *)dom)->active);
}

int
virDomainHasManagedSaveImage(void *dom, unsigned int flags)
{
	(void)flags;
	return (((struct domain *)dom)->saved);
}

char *
virDomainGetXMLDesc(void *dom, unsigned int flags)
{
	(void)dom;
	return (strdup(flags == 3 ? "the old XML" : "flags are missing"));
}

void *
virDomainDefineXML(void *conn, const char *xml)
{
	FILE *f = fopen(path_of("defined.xml", ""), "w");
	static struct domain d;

	(void)conn;
	fputs(xml, f);
	fclose(f);
	note("define", strstr(xml, "the old XML") != NULL ? "old" : "new");
	return (set("define-fails") ? NULL : &d);
}

int
virDomainUndefineFlags(void *dom, unsigned int flags)
{
	char text[512];

	snprintf(text, sizeof(text), "%s %u", virDomainGetName(dom), flags);
	note("undefine", text);
	/* As libvirt before 8.9 does. */
	return ((flags & 64) != 0 ? -1 : 0);
}

int
virDomainCreate(void *dom)
{
	(void)dom;
	note("start", "");
	return (set("start-fails") ? -1 : 0);
}

int
virDomainFree(void *dom)
{
	(void)dom;
	return (0);
}

int
virDomainListAllCheckpoints(void *dom, void ***out, unsigned int flags)
{
	(void)flags;
	*out = calloc(1, sizeof(**out));
	**out = dom;
	return (1);
}

int
virDomainCheckpointDelete(void *checkpoint, unsigned int flags)
{
	char text[32];

	(void)checkpoint;
	snprintf(text, sizeof(text), "%u", flags);
	note("forget-checkpoint", text);
	return (0);
}

int
virDomainCheckpointFree(void *checkpoint)
{
	(void)checkpoint;
	return (0);
}
