#include "results/report/html.h"

#include <fmt/format.h>

#include "results/report/format.h"
#include "results/report/sections.h"
#include "results/report/style.h"
#include "results/report/text.h"

namespace crashworthy {
namespace {

using namespace report;  // NOLINT(google-build-using-namespace): its own room

std::string header(const Summary& summary) {
  std::string facts =
      fmt::format("run <code>{}</code> · seed {} · {} blocks × {} cells", html(summary.run),
                  summary.seed, summary.blocks, summary.cells.size());
  if (summary.clock_error_ns) {
    facts += " · clock error " + html(show_value(*summary.clock_error_ns, "ns", kTypographic));
  }
  if (summary.disarmed) facts += " · <b>disarmed: no fault was injected</b>";
  return fmt::format(
      "<header><div class=\"brand\">Crashworthy crash test</div><h1>{}</h1><p>{}</p></header>\n",
      html(summary.experiment.empty() ? "unnamed experiment" : summary.experiment), facts);
}

}  // namespace

std::string html_report(const Run& run) {
  const Summary& summary = run.summary;
  std::string page = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  page += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  page += "<meta name=\"color-scheme\" content=\"light dark\">\n";
  // Nothing is fetched and nothing runs, whatever slipped through.
  page +=
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'\">\n";
  page += fmt::format("<title>{} · {} · Crashworthy</title>\n", html(summary.experiment),
                      upper(run_verdict_name(summary.verdict)));
  page += fmt::format("<style>{}</style>\n</head>\n<body>\n{}", kStyle, kHatchings);
  page += header(summary);
  page += "<main>\n" + verdict_section(summary) + comparison_section(summary) + rate_section(run) +
          decomposition_section(summary) + time_section(summary) + ledger_section(summary) +
          price_section(summary) + method_section(run) + repeat_section(run) + trials_section(run) +
          "</main>\n";
  page +=
      "<footer>Computed from the trials' histories by Crashworthy. No script, nothing fetched."
      "</footer>\n</body>\n</html>\n";
  return page;
}

}  // namespace crashworthy
