# Completion of momentlog for bash: `source <(momentlog completion bash)`.
_momentlog() {
    local line="${COMP_LINE:0:${COMP_POINT:-0}}" found status candidate IFS=$' \t\n'
    [ -n "$line" ] || line="${COMP_WORDS[*]:0:COMP_CWORD+1}"
    COMPREPLY=()
    found="$("${1:-momentlog}" complete bash "$line" 2>/dev/null)"
    status=$?
    if [ "$status" -eq 3 ]; then
        compopt -o default 2>/dev/null
        return
    fi
    while IFS= read -r candidate; do
        [ -z "$candidate" ] || COMPREPLY+=("$candidate")
    done <<<"$found"
}
complete -F _momentlog momentlog
