// plain_static: the smallest of pipelines, in C, linked statically: what a fault does to a program
// that knows nothing of it.
//
//   plain_static IN OUT [ROUNDS [PAUSE_MS]]
//
// Each file of IN is read, inverted, written beside its name in OUT and renamed. Around each item a
// child is made, which ends at once. What a call refuses is told on stderr by its errno's name,
// and the program goes on with the next item; then it ends with 1.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long done, errors;

static int refused(const char* item, const char* call) {
  ++errors;
  fprintf(stderr, "plain: %s: %s: %s\n", item, call, strerrorname_np(errno));
  return 0;
}

// Returns the bytes, or null when a call was refused.
static unsigned char* read_item(const char* path, const char* item, size_t* size, size_t* mapped) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return refused(item, "open"), NULL;
  struct stat info;
  if (fstat(fd, &info) != 0) return refused(item, "fstat"), close(fd), NULL;
  // Room that the kernel gives for each item anew.
  const size_t room = *mapped = (size_t)info.st_size + (1 << 20);
  unsigned char* bytes =
      mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (bytes == MAP_FAILED) return refused(item, "mmap"), close(fd), NULL;
  *size = 0;
  ssize_t got = 0;
  while ((got = read(fd, bytes + *size, room - *size)) > 0) *size += (size_t)got;
  if (got < 0) refused(item, "read"), munmap(bytes, room), bytes = NULL;
  close(fd);
  return bytes;
}

static int write_item(const char* path, const char* item, const unsigned char* bytes, size_t size) {
  const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return refused(item, "open");
  for (size_t put = 0; put < size;) {
    const ssize_t count = write(fd, bytes + put, size - put);
    if (count < 0) return refused(item, "write"), close(fd), 0;
    put += (size_t)count;
  }
  if (close(fd) != 0) return refused(item, "close");
  return 1;
}

static int make_child(const char* item) {
  const pid_t pid = fork();
  if (pid < 0) return refused(item, "fork");
  if (pid == 0) _exit(0);
  while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
  return 1;
}

static void process(const char* in, const char* out, const char* item) {
  char from[PATH_MAX], part[PATH_MAX], to[PATH_MAX];
  snprintf(from, sizeof from, "%s/%s", in, item);
  snprintf(part, sizeof part, "%s/.%s.part", out, item);
  snprintf(to, sizeof to, "%s/%s", out, item);
  size_t size = 0, mapped = 0;
  unsigned char* bytes = read_item(from, item, &size, &mapped);
  if (bytes == NULL) return;
  for (size_t i = 0; i < size; ++i) bytes[i] = (unsigned char)~bytes[i];
  if (make_child(item) && write_item(part, item, bytes, size)) {
    if (rename(part, to) != 0) {
      refused(item, "rename");
    } else {
      ++done;
    }
  }
  munmap(bytes, mapped);
}

int main(int argc, char** argv) {
  if (argc < 3) return fprintf(stderr, "usage: plain_static IN OUT [ROUNDS [PAUSE_MS]]\n"), 64;
  const long rounds = argc > 3 ? strtol(argv[3], NULL, 10) : 1;
  const long pause_ms = argc > 4 ? strtol(argv[4], NULL, 10) : 0;
  for (long round = 0; round < rounds; ++round) {
    DIR* directory = opendir(argv[1]);
    if (directory == NULL) return refused(argv[1], "opendir"), 1;
    for (struct dirent* entry; (entry = readdir(directory)) != NULL;) {
      if (entry->d_name[0] == '.') continue;
      process(argv[1], argv[2], entry->d_name);
      const struct timespec pause = {pause_ms / 1000, pause_ms % 1000 * 1000000};
      nanosleep(&pause, NULL);
    }
    closedir(directory);
  }
  printf("%ld done, %ld errors\n", done, errors);
  return errors == 0 ? 0 : 1;
}
