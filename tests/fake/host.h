/* host.h - what of the host the model has. */
#ifndef OVB_FAKE_HOST_H
#define OVB_FAKE_HOST_H

/** host_head(checkpoint): The checkpoint that the latest published point names, or empty. */
void host_head(char checkpoint[160]);

/** host_head_how(how): How the first disk of that point was read. */
void host_head_how(char how[32]);

/** qemu_img(argc, argv): This program, as qemu-img. */
int qemu_img(int argc, char **argv);

#endif
