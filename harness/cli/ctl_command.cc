// crashworthy ctl: asks a running tree, and tells it what to do, through its socket.
#include <fmt/format.h>
#include <langinfo.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "harness/cli/commands.h"
#include "harness/cli/control_socket.h"
#include "harness/cli/tree_view.h"
#include "harness/os/clock.h"
#include "harness/os/json_fields.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr int kRefusedExit = 1;
constexpr std::size_t kMaxAnswer = 256 << 20;

struct Verb {
  const char* name;
  bool needs_id;
  bool is_order;     // May take as long as a stop does.
  const char* done;  // What an order did.
};
constexpr std::array kVerbs{
    Verb{"tree", false, false, ""},           Verb{"status", false, false, ""},
    Verb{"stop", true, true, "stopped"},      Verb{"restart", true, true, "restarted"},
    Verb{"suspend", true, true, "suspended"}, Verb{"resume", true, true, "resumed"}};

const Verb* find_verb(const std::string& name) {
  const auto found = std::find_if(kVerbs.begin(), kVerbs.end(),
                                  [&](const Verb& verb) { return name == verb.name; });
  return found == kVerbs.end() ? nullptr : &*found;
}

Result<const Verb*> check_arguments(const CtlArguments& arguments) {
  const Verb* verb = find_verb(arguments.command);
  if (verb == nullptr) {
    std::vector<std::string> known;
    for (const Verb& candidate : kVerbs) known.emplace_back(candidate.name);
    return usage_error("unknown command " + quoted(json(arguments.command)),
                       suggest(arguments.command, known));
  }
  if (verb->needs_id && arguments.id.empty()) {
    return usage_error(arguments.command + " needs the id of a child",
                       "see them: crashworthy ctl " + arguments.socket + " tree");
  }
  if (arguments.command == "tree" && !arguments.id.empty())
    return usage_error(
        "tree shows all of it, and takes no id",
        "for one child: crashworthy ctl " + arguments.socket + " status " + arguments.id);
  return verb;
}

// Waits until `fd` is ready for `events`; false when `deadline` has passed.
bool wait_for(int fd, short events, std::int64_t deadline) {
  while (true) {
    const std::int64_t left = deadline - now_ns();
    if (left <= 0) return false;
    pollfd set{fd, events, 0};
    const std::int64_t milliseconds = std::min<std::int64_t>(left / 1'000'000 + 1, 1 << 30);
    if (::poll(&set, 1, static_cast<int>(milliseconds)) == 1) return true;
  }
}

Error no_answer(const CtlArguments& arguments, const std::string& why) {
  return Error{ErrorKind::kTimeout, 0,
               "no answer from the tree at '" + arguments.socket + "': " + why,
               "what was ordered may still be carried out; see: crashworthy ctl " +
                   arguments.socket + " tree"};
}

Result<std::string> ask(const CtlArguments& arguments, const std::string& request,
                        std::int64_t deadline) {
  auto fd = connect_control(arguments.socket);
  // Others are being served: connect() never waits here, so we do.
  while (!fd && fd.error().sys_errno == EAGAIN && now_ns() < deadline) {
    ::usleep(10'000);
    fd = connect_control(arguments.socket);
  }
  if (!fd) return fd.error();
  std::size_t sent = 0;
  while (sent < request.size()) {
    if (!wait_for(fd->get(), POLLOUT, deadline)) return no_answer(arguments, "it takes no request");
    const ssize_t count =
        ::send(fd->get(), request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
    if (count > 0) sent += static_cast<std::size_t>(count);
    if (count < 0 && errno != EAGAIN && errno != EINTR)
      return no_answer(arguments, std::strerror(errno));
  }
  std::string answer;
  std::array<char, 65536> buffer{};
  while (answer.empty() || answer.back() != '\n') {
    if (!wait_for(fd->get(), POLLIN, deadline)) {
      return no_answer(arguments,
                       "its time, " +
                           format_duration(static_cast<double>(arguments.timeout->count())) +
                           ", is over");
    }
    const ssize_t count = ::recv(fd->get(), buffer.data(), buffer.size(), 0);
    if (count > 0) answer.append(buffer.data(), static_cast<std::size_t>(count));
    if (count == 0) return no_answer(arguments, "it closed the connection");
    if (count < 0 && errno != EAGAIN && errno != EINTR)
      return no_answer(arguments, std::strerror(errno));
    if (answer.size() > kMaxAnswer) return no_answer(arguments, "it never ends");
  }
  return answer;
}

bool locale_is_utf8() {
  std::setlocale(LC_CTYPE, "");
  return std::string(::nl_langinfo(CODESET)) == "UTF-8";
}

void print(const CtlArguments& arguments, const Verb& verb, const json& answer) {
  std::string text;
  if (verb.is_order) {
    const json child = answer.value("child", json::object());
    text = answer.contains("tree") ? tree_summary(answer["tree"]) : child_summary(child);
    text = std::string(verb.done) + " " + text;
  } else if (answer.contains("child")) {
    text = child_summary(answer["child"]);
  } else if (arguments.command == "status") {
    text = tree_summary(answer.value("tree", json::object()));
  } else {
    text = tree_table(answer.value("tree", json::object()), {use_colour(), locale_is_utf8()});
  }
  std::fputs(text.c_str(), stdout);
}

int refuse(const CtlArguments& arguments, const json& answer) {
  const std::string target = arguments.id.empty() ? "the tree" : "'" + arguments.id + "'";
  std::fprintf(stderr, "crashworthy: error: unable to %s %s: %s (%s)\n", arguments.command.c_str(),
               target.c_str(), answer.value("error", std::string("no reason given")).c_str(),
               answer.value("reason", std::string("unknown")).c_str());
  const std::string hint = answer.value("hint", std::string());
  if (!hint.empty()) std::fprintf(stderr, "  %s\n", hint.c_str());
  return kRefusedExit;
}

}  // namespace

int ctl_command(CtlArguments arguments) {
  auto verb = check_arguments(arguments);
  if (!verb) return fail(verb.error());
  if (!arguments.timeout)
    arguments.timeout = (*verb)->is_order ? std::chrono::seconds(60) : std::chrono::seconds(10);
  const std::int64_t deadline = now_ns() + arguments.timeout->count();
  json request{{"command", arguments.command}};
  if (!arguments.id.empty()) request["id"] = arguments.id;
  auto line =
      ask(arguments, request.dump(-1, ' ', true, json::error_handler_t::replace) + "\n", deadline);
  if (!line) return fail(line.error());
  const json answer = json::parse(*line, nullptr, false);
  if (!answer.is_object() || !answer.value("ok", json()).is_boolean())
    return fail(no_answer(arguments, "what it says is no answer of a tree"));
  if (arguments.json) std::printf("%s\n", nlohmann::ordered_json::parse(*line).dump(1).c_str());
  if (!answer["ok"].get<bool>()) return refuse(arguments, answer);
  if (!arguments.json) print(arguments, **verb, answer);
  return 0;
}

}  // namespace crashworthy
