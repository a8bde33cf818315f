#include "harness/experiment/process_watch.h"

#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/process/process_tree.h"

namespace crashworthy {
namespace {

constexpr std::size_t kMaxProcesses = 4'000;  // That are kept.
constexpr std::size_t kMaxHeld = 256;         // Of pidfds.
constexpr int kAnswerMs = 200;
constexpr int kReceiveBytes = 4 << 20;

Result<ProcessSource> wanted_source(ProcessSource source) {
  const char* name = std::getenv("CRASHWORTHY_PROCESSES");
  if (source != ProcessSource::kBest || name == nullptr || *name == '\0') return source;
  if (std::strcmp(name, "connector") == 0) return ProcessSource::kConnector;
  if (std::strcmp(name, "looks") == 0) return ProcessSource::kLooks;
  return usage_error("CRASHWORTHY_PROCESSES is '" + std::string(name) + "'",
                     "use connector or looks, or unset it");
}

// The event in one netlink message of the proc connector; empty for others.
std::optional<proc_event> event_in(const char* data, std::size_t length) {
  nlmsghdr header{};
  cn_msg message{};
  proc_event event{};
  if (length < NLMSG_HDRLEN + sizeof message) return std::nullopt;
  std::memcpy(&header, data, sizeof header);
  std::memcpy(&message, data + NLMSG_HDRLEN, sizeof message);
  if (message.id.idx != CN_IDX_PROC || header.nlmsg_type == NLMSG_ERROR) return std::nullopt;
  const std::size_t at = NLMSG_HDRLEN + sizeof message;
  std::memcpy(&event, data + at, std::min(sizeof event, length - at));
  return event;
}

// The value of "Key:\t" in the text of /proc/PID/status; empty when it is not there.
std::string status_field(const std::string& text, const char* key) {
  const std::size_t at = text.find(key);
  if (at == std::string::npos) return {};
  const std::size_t begin = text.find_first_not_of("\t ", at + std::strlen(key));
  const std::size_t line_end = text.find('\n', at + std::strlen(key));
  return begin == std::string::npos || begin > line_end ? std::string()
                                                        : text.substr(begin, line_end - begin);
}

}  // namespace

Result<ProcessWatch> ProcessWatch::create(ProcessSource source) {
  auto wanted = wanted_source(source);
  if (!wanted) return wanted.error();
  ProcessWatch watch;
  if (*wanted == ProcessSource::kLooks) {
    watch.reason_ = "so it was asked for";
    return watch;
  }
  if (auto listening = watch.listen(); !listening) {
    if (*wanted == ProcessSource::kConnector) return listening.error();
    watch.connector_.reset();
    watch.reason_ = listening.error().message;
  }
  return watch;
}

// Asks the kernel for its events and waits for the answer: outside of the first pid namespace it
// gives none.
Result<void> ProcessWatch::listen() {
  const auto refused = [](int number) {
    Error error = system_error("the proc connector", number);
    error.kind = ErrorKind::kMissing;
    return error;
  };
  connector_.reset(
      ::socket(PF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_CONNECTOR));
  if (!connector_.valid()) return refused(errno);
  const int bytes = kReceiveBytes;
  if (::setsockopt(connector_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) != 0)
    (void)::setsockopt(connector_.get(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = CN_IDX_PROC;
  if (::bind(connector_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return refused(errno);
  constexpr std::size_t kLength = NLMSG_LENGTH(sizeof(cn_msg) + sizeof(proc_cn_mcast_op));
  std::array<char, NLMSG_ALIGN(kLength)> request{};
  nlmsghdr header{};
  header.nlmsg_len = kLength;
  header.nlmsg_type = NLMSG_DONE;
  cn_msg message{};
  message.id = {CN_IDX_PROC, CN_VAL_PROC};
  message.len = sizeof(proc_cn_mcast_op);
  const proc_cn_mcast_op operation = PROC_CN_MCAST_LISTEN;
  std::memcpy(request.data(), &header, sizeof header);
  std::memcpy(request.data() + NLMSG_HDRLEN, &message, sizeof message);
  std::memcpy(request.data() + NLMSG_HDRLEN + sizeof message, &operation, sizeof operation);
  if (::send(connector_.get(), request.data(), kLength, 0) < 0) return refused(errno);
  const std::int64_t deadline = now_ns() + std::int64_t{kAnswerMs} * 1'000'000;
  while (true) {
    const std::int64_t left_ms = (deadline - now_ns()) / 1'000'000;
    pollfd fd{connector_.get(), POLLIN, 0};
    if (left_ms <= 0 || ::poll(&fd, 1, static_cast<int>(left_ms)) <= 0) {
      return Error{ErrorKind::kMissing, 0,
                   "the proc connector does not answer: we are in a pid namespace or user "
                   "namespace of our own",
                   ""};
    }
    alignas(nlmsghdr) std::array<char, 4096> answer;
    const ssize_t length = ::recv(connector_.get(), answer.data(), answer.size(), 0);
    if (length <= 0) continue;
    const auto event = event_in(answer.data(), static_cast<std::size_t>(length));
    if (!event || event->what != proc_event::PROC_EVENT_NONE) continue;
    if (event->event_data.ack.err != 0) return refused(static_cast<int>(event->event_data.ack.err));
    return {};
  }
}

void ProcessWatch::begin(pid_t main, std::int64_t launched_ns) {
  main_ = main;
  SeenProcess process;
  process.host_pid = main;
  process.started_ns = launched_ns;
  if (const auto state = read_process_state(main)) process.parent = state->parent;
  if (SeenProcess* added = add(std::move(process))) name(*added);
}

SeenProcess* ProcessWatch::add(SeenProcess process) {
  if (processes_.size() >= kMaxProcesses) {
    ++left_out_;
    return nullptr;
  }
  index_[process.host_pid] = processes_.size();
  unnamed_.push_back(processes_.size());
  processes_.push_back(std::move(process));
  return &processes_.back();
}

const SeenProcess* ProcessWatch::find(pid_t host_pid) const {
  const auto at = index_.find(host_pid);
  return at == index_.end() ? nullptr : &processes_[at->second];
}

SeenProcess* ProcessWatch::record(pid_t host_pid) {
  const auto at = index_.find(host_pid);
  return at == index_.end() ? nullptr : &processes_[at->second];
}

// Its name and its pid as it sees it, as far as it is still there.
void ProcessWatch::name(SeenProcess& process) {
  const auto text = read_file("/proc/" + std::to_string(process.host_pid) + "/status");
  if (!text) return;
  process.command = status_field(*text, "Name:");
  const std::string pids = status_field(*text, "\nNSpid:");
  const std::size_t last = pids.find_last_of(" \t");
  process.pid = std::atoi(pids.c_str() + (last == std::string::npos ? 0 : last + 1));
}

void ProcessWatch::name_now(pid_t host_pid) {
  SeenProcess* process = record(host_pid);
  if (process != nullptr && !process->ended_ns) name(*process);
}

void ProcessWatch::read_connector() {
  if (!connector_.valid() || main_ == 0) return;
  alignas(nlmsghdr) std::array<char, 4096> buffer;
  while (true) {
    const ssize_t length = ::recv(connector_.get(), buffer.data(), buffer.size(), 0);
    if (length < 0 && errno == ENOBUFS) {
      overflowed_ = true;
      continue;
    }
    if (length <= 0) return;
    take_message(buffer.data(), static_cast<std::size_t>(length));
  }
}

void ProcessWatch::take_message(const char* data, std::size_t length) {
  const auto event = event_in(data, length);
  if (!event) return;
  const auto time_ns = static_cast<std::int64_t>(event->timestamp_ns);
  if (event->what == proc_event::PROC_EVENT_FORK) {
    const auto& fork = event->event_data.fork;
    if (fork.child_pid != fork.child_tgid) return;  // A thread.
    if (fork.child_tgid == main_) return;
    const SeenProcess* parent = find(fork.parent_tgid);
    // A pid that comes again to a stranger is no more of the tree.
    if (parent == nullptr || (parent->ended_ns && *parent->ended_ns < time_ns)) {
      index_.erase(fork.child_tgid);
      return;
    }
    SeenProcess child;
    child.host_pid = fork.child_tgid;
    child.parent = fork.parent_tgid;
    child.command = parent->command;  // Until it executes something else.
    child.started_ns = time_ns;
    add(std::move(child));
  } else if (event->what == proc_event::PROC_EVENT_EXEC) {
    const pid_t pid = event->event_data.exec.process_tgid;
    SeenProcess* process = record(pid);
    if (process == nullptr || process->ended_ns) return;
    leaders_.erase(pid);
    process->command.clear();
    name(*process);
  } else if (event->what == proc_event::PROC_EVENT_EXIT) {
    const auto& exit = event->event_data.exit;
    take_exit(exit.process_pid, exit.process_tgid, {exit.exit_code, time_ns});
  }
}

// A process has ended when its last thread has, with the status of its first.
void ProcessWatch::take_exit(pid_t thread, pid_t process, LeaderEnd end) {
  const SeenProcess* seen = find(process);
  if (seen == nullptr || seen->ended_ns) return;
  if (thread == process) leaders_[process] = end;
  end_if_gone(process, end.time_ns);
}

void ProcessWatch::end_if_gone(pid_t host_pid, std::int64_t time_ns) {
  const auto leader = leaders_.find(host_pid);
  if (leader == leaders_.end()) return;
  const auto state = read_process_state(host_pid);
  if (state && state->live) return;
  if (SeenProcess* seen = record(host_pid))
    end(*seen, WaitStatus::from_raw(static_cast<int>(leader->second.status)), time_ns);
  leaders_.erase(leader);
}

void ProcessWatch::end(SeenProcess& process, std::optional<WaitStatus> status,
                       std::int64_t time_ns) {
  if (!process.ended_ns) process.ended_ns = time_ns;
  if (status) process.status = status;
}

bool ProcessWatch::add_orphan(pid_t host_pid, pid_t pid, const WaitStatus& status,
                              std::int64_t time_ns) {
  if (host_pid == 0) return false;
  read_connector();  // Its birth comes first.
  SeenProcess* process = record(host_pid);
  if (process == nullptr) {
    SeenProcess unseen;
    unseen.host_pid = host_pid;
    process = add(std::move(unseen));
  }
  if (process == nullptr) return false;
  if (process->pid == 0) process->pid = pid;
  process->orphan = host_pid != main_;
  end(*process, status, time_ns);
  return true;
}

void ProcessWatch::update(const std::vector<pid_t>& tree) {
  read_connector();
  for (const std::size_t number : unnamed_) {
    if (!processes_[number].ended_ns) name(processes_[number]);
  }
  unnamed_.clear();
  for (auto leader = leaders_.begin(); leader != leaders_.end();) {
    const auto [pid, ended] = *leader++;
    end_if_gone(pid, ended.time_ns);
  }
  if (!connector_.valid()) look_at(tree);
}

void ProcessWatch::look_at(const std::vector<pid_t>& tree) {
  const std::int64_t time_ns = now_ns();
  for (auto held = held_.begin(); held != held_.end();) {
    SeenProcess* process = record(held->first);
    const bool over = has_ended(held->second.get());
    const auto status =
        over ? exit_status_from_kernel(held->second.get()) : std::optional<WaitStatus>();
    if (over && process != nullptr) end(*process, status, time_ns);
    held = over && status ? held_.erase(held) : std::next(held);  // A zombie tells later.
  }
  for (const pid_t pid : tree) {
    const SeenProcess* known = find(pid);
    if (known != nullptr && !known->ended_ns && (held_.contains(pid) || held_.size() >= kMaxHeld))
      continue;
    auto pidfd = open_pidfd(pid);
    if (!pidfd) continue;
    if (known == nullptr || known->ended_ns) {
      SeenProcess process;
      process.host_pid = pid;
      if (const auto state = read_process_state(pid)) process.parent = state->parent;
      process.started_ns = time_ns;  // Or up to a look before.
      SeenProcess* added = add(std::move(process));
      if (added == nullptr) continue;
      name(*added);
    }
    if (held_.size() < kMaxHeld) held_[pid] = *std::move(pidfd);
  }
}

}  // namespace crashworthy
