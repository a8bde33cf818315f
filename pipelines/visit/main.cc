// crashworthy-visit: starts a service, waits until it is ready, sends it requests at a fixed rate,
// and ends it.
//
// The service may die and come back meanwhile: that is what is looked at. Who restarts it is its
// own affair, or that of the supervisor that it runs under.
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "pipelines/each/child.h"
#include "pipelines/each/items.h"
#include "pipelines/visit/client.h"

namespace {

using namespace crashworthy;

constexpr int kAllAnswered = 0;
constexpr int kSomeMissing = 1;
constexpr int kWrongUsage = 64;
constexpr int kGaveUp = 70;

constexpr const char* kFooter =
    "A line of LIST is TARGET<TAB>FILE: what is asked for, and where its answer is put.\n"
    "Exit codes: 0 all answered; 1 some requests failed or were not answered; 64 wrong usage;\n"
    "70 the service did not become ready, or an answer could not be written.\n"
    "Example:\n"
    "  crashworthy-visit --list requests.list --rate 20 --ready http://127.0.0.1:8000/ -- \\\n"
    "      python3 -m http.server --bind 127.0.0.1 8000";

int fail(int code, const Error& error) {
  std::fprintf(stderr, "crashworthy-visit: error: %s\n", error.message.c_str());
  if (!error.hint.empty()) std::fprintf(stderr, "  %s\n", error.hint.c_str());
  return code;
}

struct Settings {
  std::string list, ready;
  std::string request_timeout = "5s", ready_timeout = "30s", grace = "5s";
  std::string end = "TERM";
  std::vector<std::string> command;
};

const std::map<std::string, int>& end_signals() {
  static const std::map<std::string, int> kSignals{
      {"TERM", SIGTERM}, {"INT", SIGINT}, {"QUIT", SIGQUIT}, {"HUP", SIGHUP}, {"KILL", SIGKILL}};
  return kSignals;
}

// Asks the service to end, and makes it.
void end_service(const each::Child& service, const Settings& settings,
                 std::chrono::nanoseconds grace) {
  ::kill(service.pid, end_signals().at(settings.end));
  wait_for_end(service.pidfd.get(), static_cast<int>(grace.count() / 1'000'000));
  each::kill_group(service);
  ::waitpid(service.pid, nullptr, 0);
}

int run(const Settings& settings, const visit::Plan& plan, const std::vector<each::Item>& requests,
        std::chrono::nanoseconds grace) {
  const Probe probe = Probe::from_environment();
  ::signal(SIGPIPE, SIG_IGN);
  if (visit::is_taken(plan.server)) {
    return fail(kGaveUp, usage_error("somebody else listens on port " + plan.server.port +
                                         " already: the service could not",
                                     "end that one, or let the service listen elsewhere"));
  }
  auto service = each::start_child(settings.command, false);
  if (!service) return fail(kWrongUsage, service.error());
  auto ready = visit::wait_until_ready(plan, service->pidfd.get());
  auto counts =
      ready ? visit::send_requests(plan, requests, probe) : Result<visit::Counts>(ready.error());
  end_service(*service, settings, grace);
  if (!counts) return fail(kGaveUp, counts.error());
  std::fprintf(stderr, "crashworthy-visit: %zu answered, %zu refused, %zu not answered\n",
               counts->answered, counts->refused, counts->unanswered);
  return counts->answered == requests.size() ? kAllAnswered : kSomeMissing;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Starts a service, sends it requests at a fixed rate, and ends it.",
               "crashworthy-visit");
  app.footer(kFooter);
  Settings settings;
  visit::Plan plan;
  app.add_option("--list", settings.list, "The requests")->required();
  app.add_option("--ready", settings.ready,
                 "A URL that answers with success once the service is ready")
      ->required();
  app.add_option("--rate", plan.rate, "Requests a second")->check(CLI::Range(0.001, 100'000.0));
  app.add_option("--request-timeout", settings.request_timeout, "Of one request");
  app.add_option("--ready-timeout", settings.ready_timeout, "Until the service is ready");
  app.add_option("--end", settings.end, "The signal that ends the service")
      ->check(CLI::IsMember({"TERM", "INT", "QUIT", "HUP", "KILL"}));
  app.add_option("--grace", settings.grace, "Until it is killed after that");
  char** const end =
      std::find_if(argv, argv + argc, [](const char* word) { return std::string(word) == "--"; });
  if (end != argv + argc) settings.command.assign(end + 1, argv + argc);
  try {
    app.parse(static_cast<int>(end - argv), argv);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return fail(kWrongUsage, usage_error(error.what(), "see crashworthy-visit --help"));
  }
  if (settings.command.empty())
    return fail(kWrongUsage, usage_error("no service", "write its command after --"));
  std::chrono::nanoseconds grace{};
  for (const auto& [name, text, value] :
       {std::tuple("--request-timeout", &settings.request_timeout, &plan.request_timeout),
        std::tuple("--ready-timeout", &settings.ready_timeout, &plan.ready_timeout),
        std::tuple("--grace", &settings.grace, &grace)}) {
    auto duration = parse_duration(*text);
    if (!duration) return fail(kWrongUsage, duration.error().with_context(name));
    *value = *duration;
  }
  auto url = parse_local_url(settings.ready);
  if (!url) return fail(kWrongUsage, url.error().with_context("--ready"));
  plan.server = *std::move(url);
  auto requests = each::read_list(settings.list);
  if (!requests) return fail(kWrongUsage, requests.error());
  return run(settings, plan, *requests, grace);
}
