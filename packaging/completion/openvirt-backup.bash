# Bash completion for virt-backupctl, virt-backupd and virt-restore.
# Options, commands and what they take are those that --help names: nothing here has to be kept in step with them.

# usage: _openvirt_backup_values PLACEHOLDER CURRENT OPTION...    what may stand for a placeholder of the help text, a line each
_openvirt_backup_values()
{
	local kind=$1 cur=$2
	shift 2
	case $kind in
	JOB)
		virt-backupctl "$@" jobs 2>/dev/null </dev/null | awk 'NR > 1 { print $1 }'
		;;
	RUN)
		virt-backupctl "$@" status 2>/dev/null </dev/null | awk '/^RUN /{ on = 1; next } /^$/{ on = 0 } on { print $1 }'
		virt-backupctl "$@" history --limit 20 2>/dev/null </dev/null | awk 'NR > 1 { print $1 }'
		;;
	POINT)
		virt-restore "$@" list 2>/dev/null </dev/null | awk '$1 ~ /@/ { print $1; sub(/@.*/, "@latest", $1); print $1 }'
		;;
	VM)
		virt-restore "$@" list 2>/dev/null </dev/null | awk '$1 ~ /@/ { sub(/@.*/, "", $1); print $1 }'
		;;
	FORMAT)
		printf '%s\n' raw qcow2
		;;
	FILE | PATH | TARGET | R)
		compgen -f -- "$cur"
		;;
	DIR)
		compgen -d -- "$cur"
		;;
	esac
}

# usage: _openvirt_backup_takes HELP OPTION    the placeholder of its argument, or nothing
_openvirt_backup_takes()
{
	sed -nE 's/^ +(-(.), +)?--([a-z-]+) ([A-Z]+) .*/-\2 --\3 \4/p' <<<"$1" | awk -v option="$2" '$1 == option || $2 == option { print $3 }'
}

_openvirt_backup()
{
	local line=${COMP_LINE:0:COMP_POINT} help cur prev='' word command='' kind='' given
	local -a words where=() args=()
	read -ra words <<<"$line"
	# Not COMP_WORDS: those are cut at the colons of points.
	case $line in
	*[[:space:]])
		cur=
		;;
	*)
		cur=${words[${#words[@]} - 1]}
		unset 'words[${#words[@]}-1]'
		;;
	esac
	help=$("${words[0]/#\~/$HOME}" --help 2>/dev/null </dev/null)

	for word in "${words[@]:1}"; do
		if [[ -n $prev ]]; then		# the argument of an option
			case $prev in
			-s | --socket | -r | --repository | -c | --config)
				where+=("$prev" "$word")
				;;
			esac
			prev=
		elif [[ $word == -* ]]; then
			[[ -z $(_openvirt_backup_takes "$help" "$word") ]] || prev=$word
		elif [[ -z $command ]]; then
			command=$word
		else
			args+=("$word")
		fi
	done

	if [[ -n $prev ]]; then
		kind=$(_openvirt_backup_takes "$help" "$prev")
	elif [[ $cur == -* ]]; then
		kind=options
	elif [[ -z $command ]]; then
		kind=commands
	else		# "] COMMAND FIRST SECOND [THIRD]  what it does"
		kind=$(sed -nE "s/^.*\\] $command(( \\S+)*)  .*/\\1/p" <<<"$help" | tr -d '[]' | awk -v n=$((${#args[@]} + 1)) '{ print $n }')
	fi
	case $kind in
	options)
		mapfile -t COMPREPLY < <(compgen -W "$(grep -oE '^ +(-., +)?--[a-z-]+' <<<"$help" | grep -oE -- '--[a-z-]+')" -- "$cur")
		;;
	commands)
		mapfile -t COMPREPLY < <(compgen -W "$(sed -nE 's/^.*OPTION\.\.\.\] ([a-z-]+).*/\1/p' <<<"$help")" -- "$cur")
		;;
	?*)
		case $kind in
		FILE | PATH | TARGET | R | DIR)
			compopt -o filenames 2>/dev/null
			;;
		esac
		mapfile -t COMPREPLY < <(compgen -W "$(_openvirt_backup_values "$kind" "$cur" "${where[@]}" | sort -u)" -- "$cur")
		# Readline replaces what stands after the last character that breaks words.
		given=${cur%"${cur##*[:@=]}"}
		COMPREPLY=("${COMPREPLY[@]#"$given"}")
		;;
	esac
}

complete -F _openvirt_backup virt-backupctl virt-backupd virt-restore
