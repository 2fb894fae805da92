"""Coding agents, known by what they always send: their prompts, their tags, their tools.

Every turn of a coding agent is about code, also when it is only "yes" or what a tool returned. Any
other agent decides nothing by its prompt's form, however full of JSON and schemas that is.
"""

from gpuserve.routing.tokens import window

# What only a coding agent writes, lower case, and its weight in log-odds: names and tags of
# Cline, Roo, aider, Claude Code, Codex, Cursor, Copilot, OpenHands, SWE-agent, Continue, Zed and
# Windsurf at 5, what such prompts speak of at 2. Not fitted: no public set has enough of them.
_SIGNATURES: tuple[tuple[str, float], ...] = (
    ("<environment_details>", 5.0),
    ("# vscode visible files", 5.0),
    ("search/replace block", 5.0),
    ("you are cline", 5.0),
    ("you are roo", 5.0),
    ("claude code", 5.0),
    ("codex cli", 5.0),
    ("github copilot", 5.0),
    ("<system-reminder>", 5.0),
    ("<open_files>", 5.0),
    ("<open_and_recently_viewed_files>", 5.0),
    ("<file_content", 5.0),
    ("<uploaded_files>", 5.0),
    ("<pr_description>", 5.0),
    ("<write_to_file>", 5.0),
    ("<execute_command>", 5.0),
    ("<read_file>", 5.0),
    ("<replace_in_file>", 5.0),
    ("[read_file for", 5.0),
    ("[execute_command for", 5.0),
    ("[write_to_file for", 5.0),
    ("[replace_in_file for", 5.0),
    ("str_replace_editor", 5.0),
    ("str_replace_based_edit_tool", 5.0),
    ("apply_patch", 5.0),
    ("openhands", 5.0),
    ("swe-agent", 5.0),
    ("coding agent", 5.0),
    ("coding assistant", 5.0),
    ("programming assistant", 5.0),
    ("code assistant", 5.0),
    ("agentic coding", 5.0),
    ("ai pair programmer", 5.0),
    ("pair programming", 5.0),
    ("software engineering", 3.0),
    ("software engineer", 3.0),
    ("software developer", 3.0),
    ("expert programmer", 3.0),
    ("senior developer", 3.0),
    ("developer", 2.0),
    ("senior engineer", 3.0),
    ("programming", 2.5),
    ("coding", 2.5),
    ("terminal agent", 4.0),
    ("terminal", 1.5),
    ("the editor", 2.0),
    ("vs code", 4.0),
    ("vscode", 4.0),
    ("edit block", 4.0),
    ("edit tool", 3.0),
    ("code change", 3.0),
    ("patch", 1.5),
    ("diff", 1.5),
    ("commit", 1.5),
    ("compil", 1.5),
    ("refactor", 2.5),
    ("lockfile", 2.0),
    ("/repo", 3.0),
    (" repo ", 2.5),
    ("read-only sql", 3.0),
    ("run_sql", 4.0),
    (" sql", 2.0),
    ("python", 1.5),
    ("javascript", 2.0),
    ("typescript", 2.0),
    ("bash", 2.0),
    ("git ", 2.0),
    ("codebase", 3.0),
    ("code base", 2.0),
    ("source code", 2.0),
    ("code review", 3.0),
    ("pull request", 2.0),
    ("git repo", 3.0),
    ("repository", 2.0),
    ("current working directory", 3.0),
    ("working directory", 2.0),
    ("workspace root", 3.0),
    ("shell command", 3.0),
    ("bash command", 3.0),
    ("terminal command", 3.0),
    ("unit test", 2.0),
    ("run the tests", 2.0),
    ("linter", 2.0),
    ("the ide", 2.0),
    ("sql quer", 2.0),
    ("write code", 2.0),
    ("edit files", 2.0),
    ("编程助手", 5.0),
    ("代码助手", 5.0),
    ("编程", 3.0),
    ("代码", 3.0),
    ("仓库", 2.0),
    ("程式", 2.5),
    ("コーディング", 4.0),
    ("コード", 2.5),
    ("リポジトリ", 3.0),
    ("プログラミング", 3.0),
    ("코딩", 4.0),
    ("코드", 2.5),
    ("프로그래밍", 3.0),
    ("программист", 4.0),
    ("программирован", 3.0),
    ("репозитори", 3.0),
    ("код", 1.5),
    ("programmier", 4.0),
    ("quellcode", 3.0),
    ("programación", 4.0),
    ("programador", 3.0),
    ("código", 2.5),
    ("repositorio", 3.0),
    ("programação", 4.0),
    ("repositório", 3.0),
    ("agent de développement", 4.0),
    ("développeur", 3.0),
    ("programmation", 4.0),
    ("dépôt", 2.0),
    ("programmazione", 4.0),
    ("codice", 2.0),
    ("programlama", 3.0),
    ("programist", 3.0),
    ("lập trình", 3.0),
    ("برمج", 3.0),
)
# Functions that a coding agent brings along, and nobody else.
_TOOL_NAMES = """
    bash shell terminal execute_command run_command run_terminal_cmd run_terminal_command
    str_replace_editor str_replace_based_edit_tool apply_patch apply_diff edit_file write_file
    write_to_file replace_in_file search_replace search_and_replace insert_content create_file
    create_new_file read_currently_open_file list_code_definition_names codebase_search grep_search
    search_files file_search glob grep ripgrep multiedit multi_edit notebookedit notebook_edit
    git_diff git_status git_commit git_log run_tests execute_bash execute_ipython_cell
    replace_string_in_file run_in_terminal local_shell shell_command get_errors list_dir view_file
    edit read_file open_file semantic_search get_diagnostics read_lints todo_write todowrite
    update_plan exec_command write_stdin browser_action find_symbol get_symbols_overview view cat sh
    patch run_sql execute_sql sql_query execute_query run_code execute_code run_python compile lint
    leer_archivo editar_archivo lesen
"""
_TOOLS = frozenset(_TOOL_NAMES.split())
_TOOL = 5.0
# No strong signature is without one of these; most turns have none and need no longer look.
_STRONG = tuple((text, weight) for text, weight in _SIGNATURES if weight >= _TOOL)
_HINTS = ("<", "[", "agent", "/replace", "cline", "claude", "codex", "vscode", "assistant", "助手")
_MOST = 7.0


def scene_terms(system: str, tools: tuple[str, ...]) -> dict[str, float]:
    """Return what speaks for a coding agent in a system prompt and names of tools, in log-odds."""
    terms = dict(_signatures(f" {window(system).lower()} ")) if system else {}
    for name in tools:
        if name.lower() in _TOOLS:
            terms[f"tool {name}"] = _TOOL
            break
    return _capped(terms)


def turn_terms(lowered: str) -> dict[str, float]:
    """Return what speaks for a coding agent in the *lowered* text of a user's turn."""
    if not any(hint in lowered for hint in _HINTS):
        return {}
    return _capped(dict(_signatures(lowered, _STRONG)))


def _signatures(
    lowered: str, among: tuple[tuple[str, float], ...] = _SIGNATURES
) -> list[tuple[str, float]]:
    return [(text, weight) for text, weight in among if text in lowered]


def _capped(terms: dict[str, float]) -> dict[str, float]:
    whole = sum(terms.values())
    if whole <= _MOST:
        return terms
    return {name: weight * _MOST / whole for name, weight in terms.items()}
