#include <algorithm>
#include <optional>
#include <regex>
#include <string_view>

#include "harness/tidy.h"

namespace crashworthy::tidy {
namespace {

namespace fs = std::filesystem;

// A document cut into its code (spans and blocks) and its prose, each with its line.
struct Document {
  struct Piece {
    int line;
    std::string text;
  };
  std::vector<Piece> spans;        // `code`
  std::vector<Piece> block_lines;  // Lines of fenced blocks; continued lines are joined.
  std::vector<Piece> prose;        // Lines with the code taken out.
};

Document parse_document(const std::string& content) {
  static const std::regex kSpan(R"((`+)(.+?)\1(?!`))");
  Document document;
  std::string fence;       // Of the block that we are in.
  bool continues = false;  // The line before ended in a backslash.
  int number = 0;
  for (const std::string& line : lines_of(content)) {
    ++number;
    const auto start = line.find_first_not_of(' ');
    const std::string_view text =
        start == std::string::npos ? std::string_view() : std::string_view(line).substr(start);
    if (fence.empty() ? text.starts_with("```") || text.starts_with("~~~")
                      : text.starts_with(fence)) {
      fence = fence.empty() ? std::string(text.substr(0, 3)) : "";
      continues = false;
    } else if (!fence.empty()) {
      if (continues) {
        document.block_lines.back().text.back() = ' ';
        document.block_lines.back().text += text;
      } else {
        document.block_lines.push_back({number, std::string(text)});
      }
      continues = text.ends_with('\\');
    } else {
      for (std::sregex_iterator span(line.begin(), line.end(), kSpan), end; span != end; ++span) {
        document.spans.push_back({number, (*span)[2]});
      }
      document.prose.push_back({number, std::regex_replace(line, kSpan, "")});
    }
  }
  return document;
}

// The changelog tells of what once was.
bool is_checked_document(const std::string& path) {
  return path.ends_with(".md") && path != "CHANGELOG.md";
}

// The file or directory of the tree that a code span names, or nothing when it names none: it is
// something else, has a placeholder, or is made by a build or a run.
std::optional<std::string> path_named_by(const Tree& tree, std::string span) {
  static const std::regex kPath(R"([A-Za-z0-9_.\-]+(/[A-Za-z0-9_.\-]+)+/?(:\d+)?)");
  if (!std::regex_match(span, kPath)) return std::nullopt;
  span = normal(span.substr(0, span.find(':')));
  if (!exists(tree, span.substr(0, span.find('/')))) return std::nullopt;
  const auto gitignore = tree.find(".gitignore");
  const auto ignored = ignored_paths(gitignore == tree.end() ? "" : gitignore->second.content);
  const bool made = std::ranges::any_of(ignored, [&](const std::string& directory) {
    return span == directory || in_directory(span, directory);
  });
  return made ? std::nullopt : std::optional(span);
}

// What a command line of a document calls, and the text in which its options must stand.
struct Command {
  std::string name;
  std::string known;
};

std::optional<Command> command_of(const Tree& tree, const std::string& text) {
  static const std::regex kCrashworthy(R"(^(\$ )?([\w./\-]*/)?crashworthy\s)");
  static const std::regex kScript(R"(^(\$ )?(?:\./)?(scripts/[\w\-]+)\s)");
  std::smatch match;
  if (std::regex_search(text, match, kScript)) {
    const auto script = tree.find(match[2]);
    if (script == tree.end()) return std::nullopt;  // check_doc_paths tells.
    return Command{match[2], script->second.content};
  }
  if (!std::regex_search(text, kCrashworthy)) return std::nullopt;
  Command command{"crashworthy (the sources in harness/cli)", ""};
  for (const auto& [path, file] : tree) {
    const bool tests = path.ends_with("_test.cc");
    if (in_directory(path, "harness/cli") && is_source(path) && !tests) {
      command.known += file.content;
    }
  }
  if (command.known.empty()) return std::nullopt;  // No program yet.
  return command;
}

void check_options(const Tree& tree, const std::string& path, const Document::Piece& piece,
                   Findings& findings) {
  static const std::regex kOption(R"((?:^|[\s\[|(])(--[a-z][a-z0-9\-]*))");
  const auto command = command_of(tree, piece.text);
  if (!command) return;
  // Behind ` -- ` stands the subject's own command line.
  const std::string own = piece.text.substr(0, piece.text.find(" -- "));
  for (std::sregex_iterator found(own.begin(), own.end(), kOption), end; found != end; ++found) {
    const std::string option = (*found)[1];
    if (option == "--help") continue;
    if (!std::regex_search(command->known, std::regex(option + R"((?![a-z0-9\-]))"))) {
      findings.push_back(
          {path, piece.line, command->name + " does not know " + option + ": mend the document"});
    }
  }
}

}  // namespace

Findings check_doc_paths(const Tree& tree) {
  static const std::regex kLink(R"re(\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\))re");
  static const std::regex kElsewhere(R"(^([a-z][a-z0-9+.\-]*:|#))");
  Findings findings;
  for (const auto& [path, file] : tree) {
    if (!is_checked_document(path)) continue;
    const Document document = parse_document(file.content);
    for (const auto& [line, span] : document.spans) {
      const auto named = path_named_by(tree, span);
      if (named && !exists(tree, *named)) {
        findings.push_back({path, line, "no file " + *named + ": mend the document"});
      }
    }
    for (const auto& [line, text] : document.prose) {
      for (std::sregex_iterator link(text.begin(), text.end(), kLink), end; link != end; ++link) {
        const std::string target = (*link)[1];
        if (std::regex_search(target, kElsewhere)) continue;
        const std::string file_part = target.substr(0, target.find('#'));
        if (!exists(tree, normal(fs::path(directory_of(path)) / file_part))) {
          findings.push_back({path, line, "the link to " + target + " is dead: mend it"});
        }
      }
    }
  }
  return findings;
}

Findings check_doc_options(const Tree& tree) {
  Findings findings;
  for (const auto& [path, file] : tree) {
    if (!is_checked_document(path)) continue;
    const Document document = parse_document(file.content);
    for (const auto& piece : document.spans) check_options(tree, path, piece, findings);
    for (const auto& piece : document.block_lines) check_options(tree, path, piece, findings);
  }
  return findings;
}

Findings check_doc_copies(const Tree& tree) {
  static const std::regex kNamed(R"(^<!-- ([\w./\-]+) -->$)");
  Findings findings;
  for (const auto& [path, file] : tree) {
    if (!is_checked_document(path)) continue;
    const auto lines = lines_of(file.content);
    for (std::size_t i = 0; i + 1 < lines.size(); ++i) {
      std::smatch named;
      if (!std::regex_match(lines[i], named, kNamed) || !lines[i + 1].starts_with("```")) continue;
      std::string copy;
      for (std::size_t at = i + 2; at < lines.size() && lines[at] != "```"; ++at) {
        copy += lines[at] + "\n";
      }
      const auto original = tree.find(named[1]);
      if (original == tree.end()) {
        findings.push_back({path, static_cast<int>(i + 1), "no file " + named[1].str()});
      } else if (original->second.content != copy) {
        findings.push_back({path, static_cast<int>(i + 1),
                            "the block is not what " + named[1].str() + " is: copy it again"});
      }
    }
  }
  return findings;
}

}  // namespace crashworthy::tidy
