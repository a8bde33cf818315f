#include "pipelines/visit/client.h"

#include <poll.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/version.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>

#include "harness/os/clock.h"

namespace crashworthy::visit {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace fs = std::filesystem;
using tcp = asio::ip::tcp;

constexpr std::size_t kMostBody = std::size_t{256} << 20;
constexpr std::chrono::milliseconds kBetweenProbes(20);
// Errors are values here: the client is there to see them.
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

struct Answer {
  int status = 0;  // 0: none.
  std::string body;
};

// One request over a connection of its own, as a new user would make it.
asio::awaitable<Answer> ask(const LocalUrl& server, const std::string& target,
                            std::chrono::nanoseconds timeout) {
  Answer answer;
  beast::tcp_stream stream(co_await asio::this_coro::executor);
  stream.expires_after(timeout);
  const tcp::endpoint endpoint(asio::ip::make_address(server.host),
                               static_cast<std::uint16_t>(std::stoi(server.port)));
  if (auto [failed] = co_await stream.async_connect(endpoint, kAwait); failed) co_return answer;
  http::request<http::empty_body> request(http::verb::get, target, 11);
  request.set(http::field::host, server.host + ":" + server.port);
  request.set(http::field::user_agent, "crashworthy-visit");
  request.set(http::field::connection, "close");
  if (auto [failed, sent] = co_await http::async_write(stream, request, kAwait); failed)
    co_return answer;
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kMostBody);
  if (auto [failed, read] = co_await http::async_read(stream, buffer, parser, kAwait); failed)
    co_return answer;
  answer.status = parser.get().result_int();
  answer.body = std::move(parser.get().body());
  co_return answer;
}

bool is_success(int status) { return status >= 200 && status < 300; }

bool write_body(const std::string& output, const std::string& body) {
  const std::string temporary = output + ".part";
  {
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    file << body;
    if (!file.flush()) return false;
  }
  std::error_code failure;
  fs::rename(temporary, output, failure);
  return !failure;
}

// All requests of a plan. One thread.
class Load {
 public:
  Load(const Plan& plan, const std::vector<each::Item>& requests, const Probe& probe)
      : plan_(plan), requests_(requests), probe_(probe) {}

  Result<Counts> run() {
    asio::co_spawn(context_, start_all(), asio::detached);
    context_.run();
    if (failure_) return *failure_;
    return counts_;
  }

 private:
  asio::awaitable<void> start_all() {
    const auto begin = std::chrono::steady_clock::now();
    asio::steady_timer timer(context_);
    for (std::size_t i = 0; i < requests_.size() && !failure_; ++i) {
      timer.expires_at(begin + std::chrono::nanoseconds(
                                   std::llround(static_cast<double>(i) / plan_.rate * 1e9)));
      co_await timer.async_wait(kAwait);
      probe_.emit(ProbeEvent::kTaken, {}, i);
      asio::co_spawn(context_, request(i), asio::detached);
    }
  }

  asio::awaitable<void> request(std::size_t i) {
    const Answer answer = co_await ask(plan_.server, requests_[i].input, plan_.request_timeout);
    if (answer.status == 0) {
      ++counts_.unanswered;
    } else if (!is_success(answer.status)) {
      ++counts_.refused;
      probe_.emit(ProbeEvent::kFailed, {}, i, 0, 1,
                  static_cast<std::int64_t>(FailureReason::kReported));
    } else if (write_body(requests_[i].output, answer.body)) {
      ++counts_.answered;
      probe_.emit(ProbeEvent::kDelivered, {}, i);
    } else if (!failure_) {
      failure_ = system_error("write '" + requests_[i].output + "'", errno);
    }
  }

  const Plan& plan_;
  const std::vector<each::Item>& requests_;
  const Probe& probe_;
  asio::io_context context_{1};
  Counts counts_;
  std::optional<Error> failure_;
};

}  // namespace

bool is_taken(const LocalUrl& server) {
  asio::io_context context(1);
  tcp::socket socket(context);
  boost::system::error_code failed;
  [[maybe_unused]] const auto ignored = socket.connect(
      {asio::ip::make_address(server.host), static_cast<std::uint16_t>(std::stoi(server.port))},
      failed);
  return !failed;
}

Result<void> wait_until_ready(const Plan& plan, int server_pidfd) {
  const std::int64_t until = now_ns() + plan.ready_timeout.count();
  while (true) {
    asio::io_context context(1);
    Answer answer;
    asio::co_spawn(
        context,
        [&]() -> asio::awaitable<void> {
          answer = co_await ask(plan.server, plan.server.target, plan.request_timeout);
        },
        asio::detached);
    context.run();
    if (is_success(answer.status)) return {};
    if (now_ns() > until) {
      return Error{ErrorKind::kTimeout, 0,
                   "the service was not ready within " +
                       format_duration(static_cast<double>(plan.ready_timeout.count())) +
                       (answer.status == 0 ? ": no answer"
                                           : ": it answers " + std::to_string(answer.status)),
                   "does it serve http://" + plan.server.host + ":" + plan.server.port +
                       plan.server.target + " ?"};
    }
    pollfd ended{server_pidfd, POLLIN, 0};
    if (::poll(&ended, 1, static_cast<int>(kBetweenProbes.count())) > 0)
      return Error{ErrorKind::kGone, 0, "the service ended before it was ready", {}};
  }
}

Result<Counts> send_requests(const Plan& plan, const std::vector<each::Item>& requests,
                             const Probe& probe) {
  return Load(plan, requests, probe).run();
}

}  // namespace crashworthy::visit
