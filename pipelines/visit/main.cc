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
#include <csignal>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "harness/os/pidfd.h"
#include "pipelines/each/child.h"
#include "pipelines/each/command_line.h"
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

int fail(int code, const Error& error) { return each::fail("crashworthy-visit", code, error); }

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
  settings.command = each::take_command(argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return fail(kWrongUsage, usage_error(error.what(), "see crashworthy-visit --help"));
  }
  if (settings.command.empty())
    return fail(kWrongUsage, usage_error("no service", "write its command after --"));
  std::chrono::nanoseconds grace{};
  if (auto read = each::read_durations(
          {{"--request-timeout", &settings.request_timeout, &plan.request_timeout},
           {"--ready-timeout", &settings.ready_timeout, &plan.ready_timeout},
           {"--grace", &settings.grace, &grace}});
      !read)
    return fail(kWrongUsage, read.error());
  auto url = parse_local_url(settings.ready);
  if (!url) return fail(kWrongUsage, url.error().with_context("--ready"));
  plan.server = *std::move(url);
  auto requests = each::read_list(settings.list);
  if (!requests) return fail(kWrongUsage, requests.error());
  return run(settings, plan, *requests, grace);
}
