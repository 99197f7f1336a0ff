/*
 * init: the first program of the test guest.  Loads the modules that the initial RAM disk lists in order, mounts the root file system and hands over
 * to its own init.  It stands for Debian's initramfs, whose shell and udev take ten times as long on an emulated processor.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AGENT	"org.qemu.guest_agent.0"

static void
fail(const char *what)
{

	perror(what);
	for (;;)
		pause();
}

static void
load_modules(void)
{
	char line[256], path[300];
	FILE *list;
	int fd;

	if ((list = fopen("/modules", "r")) == NULL)
		fail("/modules");
	while (fgets(line, sizeof(line), list) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		snprintf(path, sizeof(path), "/%s", line);
		if ((fd = open(path, O_RDONLY)) == -1)
			fail(path);
		if (syscall(SYS_finit_module, fd, "", 0) == -1)
			perror(path);
		close(fd);
	}
	fclose(list);
}

static void
mount_root(const char *device)
{
	int i;

	for (i = 0; i < 3000; i++) {
		if (mount(device, "/root", "ext4", 0, "noinit_itable") == 0)
			return;
		usleep(10000);
	}
	fail(device);
}

/* The agent's port gets the name that udev would give it, so that the agent need not wait for udev. */
static void
name_agent_port(void)
{
	char path[600], name[64], link[300];
	struct dirent *e;
	FILE *f;
	DIR *d;

	mkdir("/root/dev/virtio-ports", 0755);
	if ((d = opendir("/root/sys/class/virtio-ports")) == NULL)
		return;
	while ((e = readdir(d)) != NULL) {
		snprintf(path, sizeof(path), "/root/sys/class/virtio-ports/%s/name", e->d_name);
		if ((f = fopen(path, "r")) == NULL)
			continue;
		if (fgets(name, sizeof(name), f) != NULL && strncmp(name, AGENT, strlen(AGENT)) == 0) {
			snprintf(link, sizeof(link), "../%s", e->d_name);
			if (symlink(link, "/root/dev/virtio-ports/" AGENT) == -1)
				perror(link);
		}
		fclose(f);
	}
	closedir(d);
}

int
main(void)
{
	char *next[] = { "/sbin/init", NULL };

	mkdir("/dev", 0755);
	mkdir("/root", 0755);
	if (mount("devtmpfs", "/dev", "devtmpfs", 0, NULL) == -1)
		fail("/dev");
	load_modules();
	mount_root("/dev/vda");
	if (mount("devtmpfs", "/root/dev", "devtmpfs", 0, NULL) == -1 || mount("sysfs", "/root/sys", "sysfs", 0, NULL) == -1 ||
	    mount("proc", "/root/proc", "proc", 0, NULL) == -1)
		fail("/root");
	name_agent_port();
	if (chdir("/root") == -1 || mount(".", "/", NULL, MS_MOVE, NULL) == -1 || chroot(".") == -1 || chdir("/") == -1)
		fail("/");
	execv(next[0], next);
	fail(next[0]);
}
